// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Source ranges: whose clients are served at a load balancer's address
//! (`spec.loadBalancerSourceRanges`).

use crate::{Family, frontend::ServiceIndex, pod};

/// The most ranges of one family, over all Service ports.
pub const MAX_SOURCE_RANGES: u32 = 1 << 17;

/// What a table of ranges is searched by, for the longest match.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranged<F: Family> {
    /// The Service port. All of its bits count, always.
    pub service: ServiceIndex,
    /// The client, or a range's address, whose other bits are zero.
    pub client: F::Addr,
}

impl<F: Family> Ranged<F> {
    /// The bits that count where this many of the address do.
    #[must_use]
    pub const fn bits(of_address: u32) -> u32 {
        u32::BITS + of_address
    }
}

/// What a range stands for.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted(pub u32);

impl Admitted {
    /// Its clients are served.
    pub const YES: Self = Self(1);
}

pod!(Admitted);
pod!(generic Ranged);

const _: () = assert!(size_of::<Ranged<crate::V4>>() == 8);
const _: () = assert!(size_of::<Ranged<crate::V6>>() == 20);
