// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two IP families, as types that the tables and the datapath are generic over.

use core::{
    fmt::Debug,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::pod;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::V4 {}
    impl Sealed for super::V6 {}
}

/// An IP family. Sealed: there are two, and every table exists for both.
pub trait Family: sealed::Sealed + Copy + Eq + Ord + Hash + Debug + 'static {
    /// An address of this family.
    type Addr: Address;
    /// How the family is written in logs, metrics and Kubernetes objects: `IPv4` or `IPv6`.
    const NAME: &'static str;
    /// Where this family's counters start in the counters map, in rows of
    /// [`Reason::COUNT`](crate::counter::Reason::COUNT).
    const INDEX: u32;
}

/// What the agent can copy to and from map memory.
#[cfg(feature = "user")]
pub trait Plain: aya::Pod {}
/// What the agent can copy to and from map memory.
#[cfg(not(feature = "user"))]
pub trait Plain {}

impl Plain for V4Addr {}
impl Plain for V6Addr {}

/// An address in network byte order, as it stands in a packet.
pub trait Address: Plain + Copy + Eq + Ord + Hash + Debug + 'static + Into<IpAddr> {
    /// As many octets as the address has.
    type Octets: AsRef<[u8]>;
    /// The address that nobody has: `0.0.0.0`, `::`.
    const UNSPECIFIED: Self;
    /// The address octet by octet, in network order.
    fn octets(&self) -> Self::Octets;
    /// The address as 32-bit words, each as it lies in memory (that is, in network order).
    fn words(&self) -> &[u32];
    /// Whether this is a multicast address (for IPv4 also the limited broadcast address).
    fn is_multicast(&self) -> bool;
    /// Whether this is a loopback address (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
    fn is_loopback(&self) -> bool;
    /// Whether it means somebody on each link of its own (RFC 3927, RFC 4291 section 2.5.6).
    fn is_link_local(&self) -> bool;
    /// Whether this has the first bits of `prefix`, as many as are set in `mask`.
    fn is_in(&self, prefix: &Self, mask: &Self) -> bool;
    /// This address, if `address` is of this family.
    fn from_ip(address: IpAddr) -> Option<Self>;
    /// How a socket of this family reaches an address of either; nothing if it cannot.
    fn reached(address: IpAddr) -> Option<Self>;
    /// The address as an IPv6 socket names it: an IPv4 address is mapped (RFC 4291 section
    /// 2.5.5.2).
    fn to_mapped(self) -> V6Addr;
    /// What an IPv6 socket names; an address that is not mapped has no meaning in IPv4.
    fn from_mapped(address: V6Addr) -> Self;
}

/// IPv4 (RFC 791).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V4;

/// IPv6 (RFC 8200).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V6;

/// An IPv4 address in network order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V4Addr([u32; 1]);

/// An IPv6 address in network order. Aligned to 4 bytes, as in the header.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V6Addr([u32; 4]);

impl Family for V4 {
    type Addr = V4Addr;
    const NAME: &'static str = "IPv4";
    const INDEX: u32 = 0;
}

impl Family for V6 {
    type Addr = V6Addr;
    const NAME: &'static str = "IPv6";
    const INDEX: u32 = 1;
}

impl Address for V4Addr {
    type Octets = [u8; 4];
    const UNSPECIFIED: Self = Self([0]);

    #[inline(always)]
    fn octets(&self) -> Self::Octets {
        self.0[0].to_ne_bytes()
    }

    #[inline(always)]
    fn words(&self) -> &[u32] {
        &self.0
    }

    #[inline(always)]
    fn is_multicast(&self) -> bool {
        // 240.0.0.0/4 is reserved, but Linux routes it, and clusters give it to pods.
        u32::from_be(self.0[0]) >> 28 == 0xe || self.0[0] == u32::MAX
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        u32::from_be(self.0[0]) >> 24 == 127
    }

    #[inline(always)]
    fn is_link_local(&self) -> bool {
        u32::from_be(self.0[0]) >> 16 == 0xa9fe
    }

    #[inline(always)]
    fn is_in(&self, prefix: &Self, mask: &Self) -> bool {
        self.0[0] & mask.0[0] == prefix.0[0]
    }

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => Some(v4.into()),
            IpAddr::V6(_) => None,
        }
    }

    fn reached(address: IpAddr) -> Option<Self> {
        Self::from_ip(address)
    }

    #[inline(always)]
    fn to_mapped(self) -> V6Addr {
        V6Addr([0, 0, MAPPED, self.0[0]])
    }

    #[inline(always)]
    fn from_mapped(address: V6Addr) -> Self {
        Self([address.0[3]])
    }
}

impl Address for V6Addr {
    type Octets = [u8; 16];
    const UNSPECIFIED: Self = Self([0; 4]);

    #[inline(always)]
    fn octets(&self) -> Self::Octets {
        concat(self.0)
    }

    #[inline(always)]
    fn words(&self) -> &[u32] {
        &self.0
    }

    #[inline(always)]
    fn is_multicast(&self) -> bool {
        u32::from_be(self.0[0]) >> 24 == 0xff
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && self.0[3] == 1_u32.to_be()
    }

    #[inline(always)]
    fn is_link_local(&self) -> bool {
        u32::from_be(self.0[0]) >> 22 == 0xfe80 >> 6
    }

    #[inline(always)]
    fn is_in(&self, prefix: &Self, mask: &Self) -> bool {
        self.0.iter().zip(prefix.0).zip(mask.0).all(|((word, prefix), mask)| word & mask == prefix)
    }

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(v6.into()),
        }
    }

    fn reached(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => Some(V4Addr::from(v4).to_mapped()),
            IpAddr::V6(v6) => Some(v6.into()),
        }
    }

    #[inline(always)]
    fn to_mapped(self) -> V6Addr {
        self
    }

    #[inline(always)]
    fn from_mapped(address: V6Addr) -> Self {
        address
    }
}

impl V6Addr {
    /// Whether this is an IPv4 address in IPv6's form (RFC 4291 section 2.5.5.2).
    #[must_use]
    #[inline(always)]
    pub const fn is_mapped(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED
    }
}

/// What stands before the IPv4 address in a mapped one.
const MAPPED: u32 = 0xffff_u32.to_be();

impl From<Ipv4Addr> for V4Addr {
    fn from(address: Ipv4Addr) -> Self {
        Self([u32::from_ne_bytes(address.octets())])
    }
}

impl From<Ipv6Addr> for V6Addr {
    fn from(address: Ipv6Addr) -> Self {
        let octets = address.octets();
        let (words, _) = octets.as_chunks::<4>();
        Self([words[0], words[1], words[2], words[3]].map(u32::from_ne_bytes))
    }
}

impl From<V4Addr> for IpAddr {
    fn from(address: V4Addr) -> Self {
        IpAddr::V4(address.octets().into())
    }
}

impl From<V6Addr> for IpAddr {
    fn from(address: V6Addr) -> Self {
        IpAddr::V6(address.octets().into())
    }
}

/// The sixteen octets of four words that lie in memory in network order.
#[inline(always)]
fn concat(words: [u32; 4]) -> [u8; 16] {
    let mut octets = [0; 16];
    for (chunk, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *chunk = word.to_ne_bytes();
    }
    octets
}

pod!(V4Addr, V6Addr);

const _: () = assert!(size_of::<V4Addr>() == 4 && align_of::<V4Addr>() == 4);
const _: () = assert!(size_of::<V6Addr>() == 16 && align_of::<V6Addr>() == 4);

#[cfg(test)]
mod tests;
