// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Session affinity: which backend of a Service port a client was served by
//! (`sessionAffinity: ClientIP`).

use crate::{Family, backend::BackendId, clock::Tick, frontend::ServiceIndex, pod};

/// The most clients of one family that are remembered, over all Service ports; the least recently
/// served make room for new ones.
pub const MAX_AFFINITIES: u32 = 1 << 16;

/// A client of a Service port, whichever of its frontends it dials.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AffinityKey<F: Family> {
    /// The Service port.
    pub service: ServiceIndex,
    /// The network namespace of a socket, by the lower half of its cookie; zero for packets.
    pub netns: u32,
    /// The client of packets; unspecified for sockets, which have no address yet.
    pub client: F::Addr,
}

/// The backend that served it last.
///
/// Programs change this in place and may read it torn, or as another client's: it is acted on only
/// if the backend is one of the same Service port and of the same generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// See below.
    #[cfg(feature = "other-abi")]
    pub used: Tick,
    /// The backend.
    pub backend: BackendId,
    /// The backend's generation.
    pub generation: u32,
    /// When the client opened its last flow.
    #[cfg(not(feature = "other-abi"))]
    pub used: Tick,
}

pod!(Affinity);
pod!(generic AffinityKey);

const _: () = assert!(size_of::<Affinity>() == 12);
const _: () = assert!(size_of::<AffinityKey<crate::V4>>() == 12);
const _: () = assert!(size_of::<AffinityKey<crate::V6>>() == 24);
