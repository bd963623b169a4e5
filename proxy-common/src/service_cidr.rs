// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Service CIDRs: where the cluster takes its cluster IPs from. What is addressed to one of theirs
//! must not leave the node.

use crate::{Family, pod};

/// The most prefixes of one family.
pub const MAX_SERVICE_CIDRS: u32 = 1 << 10;

/// The most addresses of one family that are known to be somebody's outside; the least recently
/// used make room for new ones.
pub const MAX_OUTSIDERS: u32 = 1 << 12;

/// The length of an address, in bits.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "sixteen bytes at most")]
pub const fn address_bits<F: Family>() -> u32 {
    size_of::<F::Addr>() as u32 * 8
}

/// A prefix of a Service CIDR: the key of a table that is searched for the longest match.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix<F: Family> {
    /// How many bits of the address count.
    pub length: u32,
    /// An address, whose other bits are zero.
    pub address: F::Addr,
}

/// What a prefix stands for.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarded(pub u32);

impl Guarded {
    /// What goes to addresses with this prefix is kept from leaving.
    pub const YES: Self = Self(1);
}

/// Somebody outside has an address of a Service CIDR: packets have come from there.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outsider(pub u32);

impl Outsider {
    /// It is so.
    pub const YES: Self = Self(1);
}

pod!(Guarded, Outsider);
pod!(generic Prefix);

const _: () = assert!(size_of::<Prefix<crate::V4>>() == 8);
const _: () = assert!(size_of::<Prefix<crate::V6>>() == 20);
