// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Backends: the endpoints that slots point at.

use crate::{Family, Port, frontend::ServiceIndex, pod};

/// The most backends in one family.
pub const MAX_BACKENDS: u32 = 1 << 20;

/// A row of the backends table. It means one endpoint of one Service port for as long as anything
/// may refer to it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u32);

impl BackendId {
    /// No backend: the flow is a direct connection.
    pub const NONE: Self = Self(0);
    /// The first id that a backend can have.
    pub const FIRST: Self = Self(1);
}

/// One endpoint of one Service port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend<F: Family> {
    /// See below.
    #[cfg(feature = "other-abi")]
    pub generation: u32,
    /// The endpoint's address.
    pub address: F::Addr,
    /// The endpoint's port.
    pub port: Port,
    /// What new flows may know of it; the one field that changes in place.
    pub standing: Standing,
    /// Raised when the endpoint stops serving and when the row gets another endpoint: whoever
    /// remembers another generation refers to a backend that is gone.
    #[cfg(not(feature = "other-abi"))]
    pub generation: u32,
    /// The Service port that it belongs to.
    pub service: ServiceIndex,
}

/// Which sets of its Service port a backend is in, and where it is, as bits. A client that has been
/// served by it before is served by it again only if it is in the set that the client chooses from.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Standing(u16);

impl Standing {
    /// It is in the set of all nodes.
    pub const IN_CLUSTER: Self = Self(1);
    /// It is in the set of this node.
    pub const IN_LOCAL: Self = Self(1 << 1);
    /// It is on this node: what it answers comes back through here whoever has asked.
    pub const ON_NODE: Self = Self(1 << 2);
    /// The endpoint has stopped serving, and the row has had no other since. Programs tell that by the generation;
    /// this is for an agent that finds the row.
    pub const GONE: Self = Self(1 << 3);

    /// Whether all bits of `other` are set.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl<F: Family> Backend<F> {
    /// A backend, in no set and not known to be on this node.
    #[inline(always)]
    pub fn new(address: F::Addr, port: Port, generation: u32, service: ServiceIndex) -> Self {
        Self { address, port, standing: Standing::default(), generation, service }
    }

    /// Where the standing lies in a row, in bytes: it is stored on its own.
    pub const STANDING: usize = core::mem::offset_of!(Self, standing);
}

pod!(BackendId, Standing);
pod!(generic Backend);

const _: () = assert!(size_of::<Backend<crate::V4>>() == 16);
const _: () = assert!(size_of::<Backend<crate::V6>>() == 28);
