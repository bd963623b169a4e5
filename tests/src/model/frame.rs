// SPDX-License-Identifier: Apache-2.0

//! What a frame holds, as far as the rules care, and where in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::segment::Segment;
use crate::family::IpFamily;
use crate::protocol::Protocol;

/// Where the network header of a frame begins.
pub(super) const NETWORK: usize = 14;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A segment or a datagram, or the first fragment of one.
    Transport(Protocol),
    /// A fragment that is not the first.
    Later,
    /// An ICMP error.
    Error,
    /// Something else that somebody may wait for an answer to.
    Other,
}

/// A packet that may be touched. All places are counted from the beginning of the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) family: IpFamily,
    pub(super) kind: Kind,
    pub(super) network: usize,
    pub(super) transport: usize,
    /// Where the packet ends, and padding begins.
    pub(super) end: usize,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    /// Whether it is a first fragment.
    pub(super) is_first: bool,
    /// What all fragments of the packet have in common beside the addresses.
    pub(super) identification: (u32, Option<u8>),
    /// The header of fragments of IPv6.
    pub(super) fragment_header: Option<usize>,
    ports: [u16; 2],
    /// Of a segment, or of an SCTP packet: what its first chunk corresponds to.
    pub(super) segment: Option<Segment>,
}

/// A number of two bytes.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn number_of_four(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The address at a place of the frame.
pub(super) fn address(family: IpFamily, bytes: &[u8], at: usize) -> Option<IpAddr> {
    Some(match family {
        IpFamily::V4 => Ipv4Addr::from_octets(bytes.get(at..at + 4)?.try_into().ok()?).into(),
        IpFamily::V6 => Ipv6Addr::from_octets(bytes.get(at..at + 16)?.try_into().ok()?).into(),
    })
}

/// The family of an untagged frame.
pub(super) fn family(frame: &[u8]) -> Option<IpFamily> {
    match number(frame, 12)? {
        0x0800 => Some(IpFamily::V4),
        0x86dd => Some(IpFamily::V6),
        _ => None,
    }
}

/// Where in a network header the addresses are, and how long each is.
pub(super) const fn addresses(family: IpFamily) -> (usize, usize) {
    match family {
        IpFamily::V4 => (12, 4),
        IpFamily::V6 => (8, 16),
    }
}

impl View {
    /// Reads a frame.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let mut view = Self::read_network(family(frame)?, frame, NETWORK)?;
        if view.end > frame.len()
            || is_group(view.source)
            || is_group(view.destination)
            || view.source.is_unspecified()
        {
            return None;
        }
        if view.kind != Kind::Later {
            view.read_transport(&frame[..view.end])?;
        }
        Some(view)
    }

    /// Reads what an ICMP error quotes, up to its ports; its end may be missing.
    pub(super) fn read_quote(&self, frame: &[u8]) -> Option<Self> {
        let frame = &frame[..self.end];
        let mut quote = Self::read_network(self.family, frame, self.transport + 8)?;
        let protocol = match (quote.kind, quote.protocol) {
            (Kind::Other, 6) => Protocol::Tcp,
            (Kind::Other, 17) => Protocol::Udp,
            (Kind::Other, 132) => Protocol::Sctp,
            _ => return None,
        };
        quote.kind = Kind::Transport(protocol);
        quote.end = self.end;
        quote.ports = [number(frame, quote.transport)?, number(frame, quote.transport + 2)?];
        Some(quote)
    }

    /// Reads the network header; the kind is that of what follows only if it is a later fragment.
    fn read_network(family: IpFamily, frame: &[u8], network: usize) -> Option<Self> {
        let (addresses, length) = addresses(family);
        let view = Self {
            family,
            kind: Kind::Other,
            network,
            transport: network,
            end: frame.len(),
            source: address(family, frame, network + addresses)?,
            destination: address(family, frame, network + addresses + length)?,
            protocol: 0,
            is_first: false,
            identification: (0, None),
            fragment_header: None,
            ports: [0; 2],
            segment: None,
        };
        match family {
            IpFamily::V4 => view.read_ipv4(&frame[network..]),
            IpFamily::V6 => view.read_ipv6(frame),
        }
    }

    /// Reads what follows, of which `frame` has all that is not padding.
    fn read_transport(&mut self, frame: &[u8]) -> Option<()> {
        let at = self.transport;
        let is_within = |length| self.is_first || at + length <= self.end;
        match (self.protocol, self.family) {
            (6, _) => {
                self.segment = Some(self.read_tcp(frame)?);
                self.kind = Kind::Transport(Protocol::Tcp);
            }
            (17, _) => {
                let length = usize::from(number(frame.get(at..at + 8)?, 4)?);
                if length != 0 && (length < 8 || !is_within(length)) {
                    return None;
                }
                self.kind = Kind::Transport(Protocol::Udp);
            }
            (51, _) => return None,
            (1, IpFamily::V4) => self.kind = kind_of_icmp(frame.get(at..at + 8)?[0])?,
            (58, IpFamily::V6) => self.kind = kind_of_icmpv6(frame.get(at..at + 8)?[0])?,
            (132, _) => {
                self.segment = Some(self.read_sctp(frame)?);
                self.kind = Kind::Transport(Protocol::Sctp);
            }
            _ => {}
        }
        if let Kind::Transport(_) = self.kind {
            self.ports = [number(frame, at)?, number(frame, at + 2)?];
        }
        Some(())
    }

    pub(super) const fn source_socket(&self) -> SocketAddr {
        SocketAddr::new(self.source, self.ports[0])
    }

    pub(super) const fn destination_socket(&self) -> SocketAddr {
        SocketAddr::new(self.destination, self.ports[1])
    }

    /// Gives a later fragment what its first one says.
    pub(super) const fn follow(&mut self, ports: [u16; 2]) {
        self.ports = ports;
    }

    pub(super) const fn ports(&self) -> [u16; 2] {
        self.ports
    }

    /// Whether it can be the first of a flow.
    pub(super) fn opens(&self) -> bool {
        matches!(self.kind, Kind::Transport(_)) && self.segment.is_none_or(Segment::opens)
    }

    /// Whether it is a RST.
    pub(super) fn is_reset(&self) -> bool {
        self.segment.is_some_and(Segment::is_reset)
    }
}

/// RFC 792 and RFC 950.
const fn kind_of_icmp(kind: u8) -> Option<Kind> {
    match kind {
        3 | 11 | 12 => Some(Kind::Error),
        0 | 8 | 13..=18 => Some(Kind::Other),
        _ => None,
    }
}

/// RFC 4443; all that is neither an error nor an echo is for neighbours.
const fn kind_of_icmpv6(kind: u8) -> Option<Kind> {
    match kind {
        1..=4 => Some(Kind::Error),
        128 | 129 => Some(Kind::Other),
        _ => None,
    }
}

/// Whether it is a group's, or everybody's.
const fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// Whether an address shares the first bits of another.
pub(super) fn is_in(address: IpAddr, range: IpAddr, length: u8) -> bool {
    let bits = |address| match address {
        IpAddr::V4(address) => u128::from(Ipv4Addr::to_bits(address)) << 96,
        IpAddr::V6(address) => Ipv6Addr::to_bits(address),
    };
    let different = bits(address) ^ bits(range);
    address.is_ipv4() == range.is_ipv4() && different.leading_zeros() >= length.into()
}
