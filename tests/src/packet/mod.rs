// SPDX-License-Identifier: Apache-2.0

//! Packets as values: built into bytes, and read back from them.
//!
//! This knows nothing of Sixfour's own code, so that it can judge it. What
//! [`Packet::build`] writes [`Packet::decode`] reads back as the same value;
//! lengths and checksums are not part of it, they are always right.

mod build;
mod checksum;
mod decode;
mod fragment;
mod icmp;
mod sctp;
mod tcp;

use std::net::{IpAddr, SocketAddr};

pub use decode::assert_checksums;
pub use fragment::Fragment;
pub use icmp::{Icmp, Quoted};
pub use sctp::{Chunk, Sctp, crc32c};
pub use tcp::{Tcp, TcpFlags};

use crate::protocol::Protocol;

/// The Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The hardware address of the sender.
    pub source: [u8; 6],
    /// The hardware address of the receiver.
    pub destination: [u8; 6],
    /// The VLAN in a tag, if there is one.
    pub vlan: Option<u16>,
}

/// A UDP datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    /// The source port.
    pub source: u16,
    /// The destination port.
    pub destination: u16,
    /// Whether it has a checksum; only IPv4 may go without.
    pub checksum: bool,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// What an IP packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A TCP segment.
    Tcp(Tcp),
    /// A UDP datagram.
    Udp(Udp),
    /// An SCTP packet.
    Sctp(Sctp),
    /// An ICMP or ICMPv6 message.
    Icmp(Icmp),
    /// Anything else, and all fragments.
    Other {
        /// The IP protocol number.
        protocol: u8,
        /// The bytes.
        payload: Vec<u8>,
    },
}

/// An IP packet in an Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The Ethernet header.
    pub link: Link,
    /// The source address.
    pub source: IpAddr,
    /// The destination address; of the same family.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// The identification of IPv4 (16 bits); the flow label of IPv6 (20
    /// bits), and the identification of its fragments.
    pub label: u32,
    /// Whether it must not be fragmented (IPv4).
    pub dont_fragment: bool,
    /// The options of IPv4, or the hop-by-hop options of IPv6, with padding;
    /// see [`Packet::with_options`].
    pub options: Vec<u8>,
    /// The segments that a routing header has left (IPv6).
    pub segments_left: Option<u8>,
    /// Whether there is an authentication header.
    pub authentication: bool,
    /// Which fragment it is.
    pub fragment: Option<Fragment>,
    /// What it carries.
    pub content: Content,
}

impl Packet {
    /// A packet between two addresses with everything else as is usual.
    #[must_use]
    pub const fn new(source: IpAddr, destination: IpAddr, content: Content) -> Self {
        let link = Link {
            source: [0x02, 0, 0, 0, 0, 0xaa],
            destination: [0x02, 0, 0, 0, 0, 0xbb],
            vlan: None,
        };
        Self {
            link,
            source,
            destination,
            hop_limit: 64,
            traffic_class: 0,
            label: 0x1234,
            dont_fragment: source.is_ipv4(),
            options: Vec::new(),
            segments_left: None,
            authentication: false,
            fragment: None,
            content,
        }
    }

    /// A TCP segment without payload.
    #[must_use]
    pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: TcpFlags) -> Self {
        let segment = Tcp::new(source.port(), destination.port(), flags);
        Self::new(source.ip(), destination.ip(), Content::Tcp(segment))
    }

    /// A UDP datagram.
    #[must_use]
    pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Self {
        let datagram = Udp {
            source: source.port(),
            destination: destination.port(),
            checksum: true,
            payload: payload.to_vec(),
        };
        Self::new(source.ip(), destination.ip(), Content::Udp(datagram))
    }

    /// The first packet of a flow of `protocol`: a SYN, a datagram, or an INIT.
    #[must_use]
    pub fn opening(protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Self {
        match protocol {
            Protocol::Tcp => Self::tcp(source, destination, TcpFlags::SYN),
            Protocol::Udp => Self::udp(source, destination, b"first"),
            Protocol::Sctp => Self::init(source, destination, 1000),
        }
    }

    /// Replaces what the content carries; of SCTP, what its first chunk does.
    #[must_use]
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        bytes.clone_into(match &mut self.content {
            Content::Tcp(tcp) => &mut tcp.payload,
            Content::Udp(udp) => &mut udp.payload,
            Content::Icmp(icmp) => &mut icmp.payload,
            Content::Other { payload, .. } => payload,
            Content::Sctp(sctp) => {
                sctp.set_payload(bytes);
                return self;
            }
        });
        self
    }

    /// Sets the numbers of a TCP segment.
    ///
    /// # Panics
    ///
    /// If it is not one.
    #[must_use]
    pub fn numbers(mut self, sequence: u32, acknowledgment: u32) -> Self {
        let Content::Tcp(tcp) = &mut self.content else { panic!("not TCP: {self:?}") };
        tcp.sequence = sequence;
        tcp.acknowledgment = acknowledgment;
        self
    }

    /// Makes the IP header longer by options that mean nothing.
    #[must_use]
    pub fn with_options(mut self) -> Self {
        self.options = match self.source {
            // No operation.
            IpAddr::V4(_) => vec![1; 8],
            // PadN of six bytes.
            IpAddr::V6(_) => vec![1, 4, 0, 0, 0, 0],
        };
        self
    }

    /// Its protocol, if a Service port can have it and it is no fragment.
    #[must_use]
    pub const fn protocol(&self) -> Option<Protocol> {
        match self.content {
            Content::Tcp(_) => Some(Protocol::Tcp),
            Content::Udp(_) => Some(Protocol::Udp),
            Content::Sctp(_) => Some(Protocol::Sctp),
            Content::Icmp(_) | Content::Other { .. } => None,
        }
    }

    /// Source address and port, where there are ports.
    #[must_use]
    pub const fn source_socket(&self) -> Option<SocketAddr> {
        match self.ports() {
            Some((source, _)) => Some(SocketAddr::new(self.source, source)),
            None => None,
        }
    }

    /// Destination address and port, where there are ports.
    #[must_use]
    pub const fn destination_socket(&self) -> Option<SocketAddr> {
        match self.ports() {
            Some((_, destination)) => Some(SocketAddr::new(self.destination, destination)),
            None => None,
        }
    }

    /// The same from another source; the port only where there are ports.
    #[must_use]
    pub fn from(mut self, source: SocketAddr) -> Self {
        self.source = source.ip();
        match &mut self.content {
            Content::Tcp(tcp) => tcp.source = source.port(),
            Content::Udp(udp) => udp.source = source.port(),
            Content::Sctp(sctp) => sctp.source = source.port(),
            Content::Icmp(_) | Content::Other { .. } => {}
        }
        self
    }

    /// The same to another destination; the port only where there are ports.
    #[must_use]
    pub fn to(mut self, destination: SocketAddr) -> Self {
        self.destination = destination.ip();
        match &mut self.content {
            Content::Tcp(tcp) => tcp.destination = destination.port(),
            Content::Udp(udp) => udp.destination = destination.port(),
            Content::Sctp(sctp) => sctp.destination = destination.port(),
            Content::Icmp(_) | Content::Other { .. } => {}
        }
        self
    }

    const fn ports(&self) -> Option<(u16, u16)> {
        match &self.content {
            Content::Tcp(tcp) => Some((tcp.source, tcp.destination)),
            Content::Udp(udp) => Some((udp.source, udp.destination)),
            Content::Sctp(sctp) => Some((sctp.source, sctp.destination)),
            Content::Icmp(_) | Content::Other { .. } => None,
        }
    }
}
