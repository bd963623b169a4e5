// SPDX-License-Identifier: Apache-2.0

//! ICMP and ICMPv6 messages.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use etherparse::{IpHeaders, IpNumber};

use super::{Content, Packet, checksum};
use crate::family::IpFamily;

/// An ICMP or ICMPv6 message, by the family of the packet around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// The type.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// The four bytes after the checksum.
    pub rest: [u8; 4],
    /// What follows; in errors, the packet that they are about.
    pub payload: Vec<u8>,
}

/// What an ICMP error says of the packet that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// That packet's source.
    pub source: SocketAddr,
    /// That packet's destination.
    pub destination: SocketAddr,
    /// That packet's IP protocol number.
    pub protocol: u8,
}

/// The ICMP of a family as an IP protocol.
pub(super) const fn number(family: IpFamily) -> IpNumber {
    match family {
        IpFamily::V4 => IpNumber::ICMP,
        IpFamily::V6 => IpNumber::IPV6_ICMP,
    }
}

/// The checksum of an ICMP message: only ICMPv6 has a pseudo header.
pub(super) fn checksum_of(packet: &Packet, content: &[u8]) -> Result<u16> {
    match packet.source {
        IpAddr::V4(_) => Ok(checksum::plain(content)),
        IpAddr::V6(_) => checksum::with_pseudo_header(packet, IpNumber::IPV6_ICMP, content),
    }
}

impl Icmp {
    pub(super) fn bytes(&self, packet: &Packet) -> Result<(IpNumber, Vec<u8>)> {
        let head = [self.kind, self.code, 0, 0];
        let mut bytes = [&head, &self.rest, self.payload.as_slice()].concat();
        let sum = checksum_of(packet, &bytes)?;
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        Ok((number(IpFamily::of(packet.source)), bytes))
    }

    /// Whether it says that a port is unreachable: 3/3 of ICMP (RFC 792),
    /// 1/4 of ICMPv6 (RFC 4443).
    #[must_use]
    pub fn is_port_unreachable(&self, family: IpFamily) -> bool {
        (self.kind, self.code) == port_unreachable(family)
    }

    /// What an error says of the packet that it is about, whose end may be
    /// missing. Fails also if the checksum of its IPv4 header is wrong.
    pub fn quoted(&self) -> Result<Quoted> {
        let result = IpHeaders::from_slice_lax(&self.payload).context("the quoted packet")?;
        let (headers, content) = (result.0, result.1);
        let (source, destination) = addresses(&headers);
        if let IpHeaders::Ipv4(header, _) = &headers {
            ensure!(header.header_checksum == header.calc_header_checksum(), "in the quote");
        }
        let ports = content.payload.first_chunk::<4>().context("the quote has no ports")?;
        let [a, b, c, d] = *ports;
        Ok(Quoted {
            source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
            destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
            protocol: content.ip_number.0,
        })
    }
}

impl Packet {
    /// An error about the packet `about`, of which it quotes the first bytes from its IP header
    /// on: as many as `quoted`, if there are.
    pub fn icmp_error(
        source: IpAddr,
        (kind, code): (u8, u8),
        rest: [u8; 4],
        about: &Self,
        quoted: usize,
    ) -> Result<Self> {
        let mut payload = about.build_ip()?;
        payload.truncate(quoted);
        let message = Icmp { kind, code, rest, payload };
        Ok(Self::new(source, about.source, Content::Icmp(message)))
    }

    /// The error that says that the port `about` was sent to is unreachable.
    ///
    /// It quotes the packet from its IP header on, as far as 1280 bytes of
    /// IPv6 or 576 bytes of IPv4 go.
    pub fn port_unreachable(source: IpAddr, about: &Self) -> Result<Self> {
        let family = IpFamily::of(source);
        let longest = match family {
            IpFamily::V4 => 576 - 28,
            IpFamily::V6 => 1280 - 48,
        };
        Self::icmp_error(source, port_unreachable(family), [0; 4], about, longest)
    }
}

const fn port_unreachable(family: IpFamily) -> (u8, u8) {
    match family {
        IpFamily::V4 => (3, 3),
        IpFamily::V6 => (1, 4),
    }
}

/// The source and destination addresses of IP headers.
pub(super) fn addresses(headers: &IpHeaders) -> (IpAddr, IpAddr) {
    match headers {
        IpHeaders::Ipv4(header, _) => (header.source.into(), header.destination.into()),
        IpHeaders::Ipv6(header, _) => (header.source.into(), header.destination.into()),
    }
}
