// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Services: one row per Service port, with the backend sets that its frontends choose from.
//!
//! A row is three aligned 64-bit words, each read and written whole: whoever reads one sees the
//! old or the new state of it and never half of each. The agent fills a new range of slots before
//! it stores the word that publishes it, and reuses the old range only when no program can hold
//! the old word any more.

use crate::pod;

/// The most Service ports in one family, with the reserved rows.
pub const MAX_SERVICES: u32 = 1 << 17;
/// The most slots in one family.
pub const MAX_SLOTS: u32 = 1 << 21;

/// One Service port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// All endpoints that are eligible on this node (`internalTrafficPolicy: Cluster`).
    pub cluster: BackendSet,
    /// The endpoints on this node; published before a policy bit selects it.
    pub local: BackendSet,
    /// Which set serves whom.
    pub policy: Policy,
}

impl Service {
    /// The row of a Service port that was removed.
    pub const GONE: Self =
        Self { cluster: BackendSet::REJECT, local: BackendSet::REJECT, policy: Policy::GONE };

    /// Where in a row, in bytes, the word of a set or of the policy lies.
    pub const WORD: usize = size_of::<u64>();
}

/// A contiguous range of slots, in one word: its start (the upper half, without its first bit) and
/// its length (the lower half). An empty set says in its upper half what becomes of a new flow.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendSet(u64);

/// What becomes of a new flow to an empty backend set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EmptySet {
    /// The Service has no endpoints anywhere: refuse (TCP RST, ICMP port unreachable).
    Reject,
    /// A traffic policy is Local and the endpoints are elsewhere: drop.
    Drop,
}

impl BackendSet {
    /// A set that refuses new flows.
    pub const REJECT: Self = Self(0);
    /// A set that drops new flows.
    pub const DROP: Self = Self(1 << 32);

    /// The slots from `start`, `count` of them (more than none).
    #[must_use]
    #[inline(always)]
    pub const fn new(start: u32, count: u32) -> Self {
        Self((start as u64) << 32 | count as u64)
    }

    /// The word as it lies in the map.
    #[must_use]
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// The set from its word.
    #[must_use]
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The first bit of the word.
    const MAPPED: u64 = 1 << 63;

    /// The same slots, which hold IPv4 backends in IPv6's form (RFC 4291 section 2.5.5.2): an IPv6
    /// socket reaches them, no IPv6 packet does.
    #[must_use]
    #[inline(always)]
    pub const fn mapped(self) -> Self {
        Self(self.0 | Self::MAPPED)
    }

    /// Whether they do.
    #[must_use]
    #[inline(always)]
    pub const fn is_mapped(self) -> bool {
        self.0 & Self::MAPPED != 0
    }

    /// What the set is to packets, and to sockets that send single datagrams: Linux does not let
    /// these go from one family to the other (`udpv6_sendmsg`).
    #[must_use]
    #[inline(always)]
    pub const fn within_family(self) -> Self {
        if self.is_mapped() { Self::REJECT } else { self }
    }

    /// The first slot.
    #[must_use]
    #[inline(always)]
    pub const fn start(self) -> u32 {
        ((self.0 & !Self::MAPPED) >> 32) as u32
    }

    /// How many slots there are.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    pub const fn count(self) -> u32 {
        self.0 as u32
    }

    /// What becomes of a new flow, if the set is empty.
    #[must_use]
    #[inline(always)]
    pub const fn when_empty(self) -> Option<EmptySet> {
        match self {
            Self(word) if word << 32 != 0 => None,
            Self(0) => Some(EmptySet::Reject),
            Self(_) => Some(EmptySet::Drop),
        }
    }
}

/// What becomes of new flows to a Service port, in one word: which set serves whom, as bits of the
/// lower half; in the upper half the time for which clients stay with their backends.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Policy(u64);

impl Policy {
    /// `internalTrafficPolicy: Local`: the ClusterIP is served from [`Service::local`].
    pub const INTERNAL_LOCAL: Self = Self(1);
    /// `externalTrafficPolicy: Local`: all other frontends are served from [`Service::local`],
    /// except for clients on this node.
    pub const EXTERNAL_LOCAL: Self = Self(1 << 1);
    /// `loadBalancerSourceRanges`: who is in none of them is not served at a load balancer's
    /// address.
    pub const SOURCE_RANGES: Self = Self(1 << 2);
    /// One of the ranges holds this node: its processes are served.
    pub const NODE_IN_RANGES: Self = Self(1 << 3);
    /// The Service port was removed, and the row has had no other since. Nothing for programs, which find two empty
    /// sets; this is for an agent that finds the row.
    pub const GONE: Self = Self(1 << 4);

    /// This policy, with session affinity for so many seconds (the API allows 1 to
    /// 86,400).
    #[must_use]
    pub const fn with_affinity(self, seconds: u32) -> Self {
        Self(self.0 & u32::MAX as u64 | (seconds as u64) << 32)
    }

    /// For how many seconds after its last new flow a client stays with its backend; zero without
    /// session affinity.
    #[must_use]
    #[inline(always)]
    pub const fn affinity_seconds(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The word as it lies in the map.
    #[must_use]
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// The policy from its word.
    #[must_use]
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// Whether all bits of `other` are set.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

pod!(Service, BackendSet, Policy);

const _: () = assert!(size_of::<Service>() == 24 && align_of::<Service>() == 8);

#[cfg(test)]
mod tests {
    use super::{BackendSet, EmptySet, Policy};

    #[test]
    fn a_set_is_one_word() {
        let set = BackendSet::new(0x5ead_beef, 7);
        assert_eq!((set.start(), set.count(), set.when_empty()), (0x5ead_beef, 7, None));
        assert_eq!(BackendSet::from_word(set.to_word()), set);
        assert_eq!(BackendSet::new(0, 1).when_empty(), None);
    }

    #[test]
    fn a_mapped_set_is_for_connected_sockets_only() {
        let set = BackendSet::new(5, 7);
        let mapped = set.mapped();
        assert_eq!((mapped.start(), mapped.count(), mapped.when_empty()), (5, 7, None));
        assert_eq!(mapped.within_family(), BackendSet::REJECT);
        assert_eq!(set.within_family(), set);
        assert_eq!(BackendSet::DROP.within_family(), BackendSet::DROP);
    }

    #[test]
    fn an_empty_set_says_what_becomes_of_a_flow() {
        assert_eq!(BackendSet::REJECT.when_empty(), Some(EmptySet::Reject));
        assert_eq!(BackendSet::DROP.when_empty(), Some(EmptySet::Drop));
        assert_eq!(BackendSet::DROP.count(), 0);
    }

    #[test]
    fn policies_are_bits() {
        assert!(Policy::INTERNAL_LOCAL.has(Policy::INTERNAL_LOCAL));
        assert!(!Policy::default().has(Policy::INTERNAL_LOCAL));
        let both = Policy::INTERNAL_LOCAL.with(Policy::EXTERNAL_LOCAL);
        assert!(both.has(Policy::EXTERNAL_LOCAL) && !both.has(Policy::SOURCE_RANGES));
    }

    #[test]
    fn affinity_is_the_upper_half() {
        let policy = Policy::EXTERNAL_LOCAL.with_affinity(86_400);
        assert_eq!(policy.affinity_seconds(), 86_400);
        assert!(policy.has(Policy::EXTERNAL_LOCAL));
        assert_eq!(policy.with_affinity(0), Policy::EXTERNAL_LOCAL);
    }
}
