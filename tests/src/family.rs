// SPDX-License-Identifier: Apache-2.0

//! The two families, as values and as types, and the addresses they use.
//!
//! A scenario is one function that is generic over [`TestFamily`];
//! [`both_families!`](crate::both_families) makes two tests of it. The
//! addresses are those of the recorded cluster: Kubernetes gives a pod the
//! same decimal digits in both families (`10.244.1.12`, `fd00:10:244:1::12`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::netns::Prefix;

/// An IP family as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family that `address` belongs to.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The length of a host's prefix: 32 or 128.
    #[must_use]
    pub const fn host_prefix_length(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// `0.0.0.0` or `::`.
    #[must_use]
    pub const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// The name that Kubernetes uses in `ipFamilies` and `addressType`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How a program writes the address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressForm {
    /// As it is, on a socket of its family.
    Plain,
    /// IPv4 as `::ffff:a.b.c.d`, on a socket of IPv6 (RFC 4291, 2.5.5.2), as
    /// programs do that have one socket for both families.
    Mapped,
}

impl AddressForm {
    /// All that addresses of a family have.
    #[must_use]
    pub const fn all(family: IpFamily) -> &'static [Self] {
        match family {
            IpFamily::V4 => &[Self::Plain, Self::Mapped],
            IpFamily::V6 => &[Self::Plain],
        }
    }

    /// `address` in this form, or as it is if it does not have it.
    #[must_use]
    pub const fn of(self, address: SocketAddr) -> SocketAddr {
        match (self, address.ip()) {
            (Self::Mapped, IpAddr::V4(v4)) => {
                SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), address.port())
            }
            _ => address,
        }
    }
}

/// An address, or the start of a prefix, in both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DualAddress {
    /// The one in IPv4.
    pub v4: Ipv4Addr,
    /// The one in IPv6.
    pub v6: Ipv6Addr,
}

impl DualAddress {
    const fn new(v4: [u8; 4], v6: u128) -> Self {
        Self { v4: Ipv4Addr::from_octets(v4), v6: Ipv6Addr::from_bits(v6) }
    }

    /// The address of a family.
    #[must_use]
    pub const fn of(self, family: IpFamily) -> IpAddr {
        match family {
            IpFamily::V4 => IpAddr::V4(self.v4),
            IpFamily::V6 => IpAddr::V6(self.v6),
        }
    }

    /// Host `host` of the network that joins the nodes.
    #[must_use]
    pub const fn underlay(host: u8) -> Self {
        let prefix = Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 0).to_bits();
        Self::new([192, 168, 50, host], prefix | digits_as_hex(host))
    }

    /// Host `host` of a network behind a router; host 0 is the network itself.
    #[must_use]
    pub const fn far(host: u8) -> Self {
        let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0).to_bits();
        Self::new([198, 51, 100, host], prefix | digits_as_hex(host))
    }

    /// Pod `host` of node `node`; host 0 is the node's pod CIDR itself.
    #[must_use]
    pub const fn pod(node: u8, host: u8) -> Self {
        let prefix = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0).to_bits();
        Self::new([10, 244, node, host], prefix | digits_as_hex(node) << 64 | digits_as_hex(host))
    }

    /// A ClusterIP of the Service CIDR.
    #[must_use]
    pub const fn cluster_ip(host: u8) -> Self {
        let prefix = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0).to_bits();
        Self::new([10, 96, 0, host], prefix | digits_as_hex(host))
    }

    /// The Service CIDR, as in the recorded cluster.
    #[must_use]
    pub const fn service_ranges() -> [Prefix; 2] {
        let Self { v4, v6 } = Self::cluster_ip(0);
        [Prefix(IpAddr::V4(v4), 16), Prefix(IpAddr::V6(v6), 112)]
    }
}

/// `12` as `0x12`.
const fn digits_as_hex(number: u8) -> u128 {
    let number = number as u128;
    number / 100 * 0x100 + number / 10 % 10 * 0x10 + number % 10
}

/// A family as a type, for scenarios that are generic over it.
pub trait TestFamily: Copy + fmt::Debug + Send + Sync + 'static {
    /// The same as a value.
    const FAMILY: IpFamily;

    /// See [`DualAddress::underlay`].
    #[must_use]
    fn underlay(host: u8) -> IpAddr {
        DualAddress::underlay(host).of(Self::FAMILY)
    }

    /// See [`DualAddress::pod`].
    #[must_use]
    fn pod(node: u8, host: u8) -> IpAddr {
        DualAddress::pod(node, host).of(Self::FAMILY)
    }

    /// See [`DualAddress::cluster_ip`].
    #[must_use]
    fn cluster_ip(host: u8) -> IpAddr {
        DualAddress::cluster_ip(host).of(Self::FAMILY)
    }
}

/// IPv4.
#[derive(Clone, Copy, Debug)]
pub struct V4;

impl TestFamily for V4 {
    const FAMILY: IpFamily = IpFamily::V4;
}

/// IPv6.
#[derive(Clone, Copy, Debug)]
pub struct V6;

impl TestFamily for V6 {
    const FAMILY: IpFamily = IpFamily::V6;
}

/// Makes the tests `scenario::v4` and `scenario::v6` of each generic
/// `fn scenario<F: TestFamily>() -> anyhow::Result<()>`.
#[macro_export]
macro_rules! both_families {
    ($($scenario:ident),+ $(,)?) => {
        $(
            mod $scenario {
                #[test]
                fn v4() -> ::anyhow::Result<()> {
                    super::$scenario::<$crate::family::V4>()
                }

                #[test]
                fn v6() -> ::anyhow::Result<()> {
                    super::$scenario::<$crate::family::V6>()
                }
            }
        )+
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_recorded_cluster() {
        assert_eq!(DualAddress::pod(1, 12).v4.to_string(), "10.244.1.12");
        assert_eq!(DualAddress::pod(1, 12).v6.to_string(), "fd00:10:244:1::12");
        assert_eq!(DualAddress::underlay(2).v6.to_string(), "fd00:50::2");
        assert_eq!(DualAddress::cluster_ip(254).v6.to_string(), "fd00:10:96::254");
        assert_eq!(V6::pod(2, 0).to_string(), "fd00:10:244:2::");
    }
}
