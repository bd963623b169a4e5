// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Packets: what a frame holds, as far as the programs care.

use aya_ebpf::programs::TcContext;
use proxy_common::{Address, Port, Protocol, flow::Tuple};

use crate::{
    family::{Datapath, Message},
    frame::{ETHERNET, opaque, pull, read},
    tcp::{self, Segment, TcpHeader},
};

/// Whoever changes a packet with this header (RFC 4302) breaks it.
const AUTHENTICATION: Protocol = Protocol::new(51);

/// The length of the headers of both ICMPs, in bytes.
const ICMP_HEADER: u32 = 8;

/// How far into a frame a transport header can begin: behind IPv4's longest header, and IPv6's
/// with some extensions.
pub(crate) const MAX_TRANSPORT: usize = 120;

/// How much of a packet a frame holds.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part(u8);

impl Part {
    /// All of it.
    pub(crate) const WHOLE: Self = Self(0);
    /// Its first fragment, which has the transport header.
    pub(crate) const FIRST: Self = Self(1);
    /// Another fragment, which has none.
    pub(crate) const LATER: Self = Self(2);
}

/// A packet that may be ours. All offsets are in bytes from the beginning of the frame.
#[repr(C)]
pub(crate) struct Packet<F: Datapath> {
    /// The ports are zero where there are none.
    pub(crate) tuple: Tuple<F>,
    /// Zero in IPv6's later fragments, which do not say it.
    pub(crate) protocol: Protocol,
    pub(crate) part: Part,
    /// Where the network header begins.
    network: u16,
    /// Where the transport header begins.
    pub(crate) transport: u16,
    /// Where the 16 bits are that say which fragment this is; zero if nothing does.
    pub(crate) fragment_field: u16,
    /// Where the packet ends; a short frame is padded behind it.
    pub(crate) end: u32,
    /// Which packet a fragment belongs to, as it stands in the header.
    pub(crate) identification: u32,
    /// All zero unless the protocol is TCP or SCTP and the header is here.
    pub(crate) segment: Segment,
}

/// What a frame was found to hold.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// No packet, or one that no receiver takes.
    Nothing,
    /// A packet that is nothing of ours. Its addresses are there.
    Unserved,
    /// TCP, UDP or SCTP; or a fragment of anything that is not its first.
    Transport,
    /// An ICMP error about some other packet.
    Error,
    /// Another packet that somebody waits for an answer to.
    Other,
}

/// A UDP header.
#[repr(C)]
#[derive(Clone, Copy)]
struct UdpHeader {
    source_port: u16,
    destination_port: u16,
    length: u16,
    checksum: u16,
}

impl<F: Datapath> Packet<F> {
    /// Reads a packet between unicast addresses from a frame whose network header begins at
    /// `network`. Who has no address yet (`0.0.0.0`, `::`) cannot be answered (RFC 1122 section
    /// 3.2.2, RFC 4443 section 2.4).
    #[inline(never)]
    pub(crate) fn parse(&mut self, context: &TcContext, network: usize) -> Parsed {
        let is_there = pull(context, network + F::HEADER).is_some()
            && self.parse_network(context, network).is_some();
        if is_there {
            self.parse_transport(context).unwrap_or(Parsed::Unserved)
        } else {
            Parsed::Nothing
        }
    }

    #[inline(always)]
    fn parse_transport(&mut self, context: &TcContext) -> Option<Parsed> {
        // What was cut short on its way is for its receiver to throw away.
        if self.end > context.len()
            || self.tuple.destination.is_multicast()
            || self.tuple.source.is_multicast()
            || self.tuple.source.words().iter().all(|word| *word == 0)
        {
            return None;
        }
        if self.part == Part::LATER {
            return Some(Parsed::Transport);
        }
        let transport = self.transport();
        match self.protocol {
            Protocol::TCP => self.parse_tcp(context, transport),
            Protocol::UDP => self.parse_udp(context, transport),
            Protocol::SCTP => self.parse_sctp(context, transport),
            protocol if protocol == F::ICMP && self.has(ICMP_HEADER, 0) => {
                match F::message(context.load(transport).ok()?) {
                    Message::Error => Some(Parsed::Error),
                    Message::Query => Some(Parsed::Other),
                    Message::Control => None,
                }
            }
            // The first is cut short.
            protocol if protocol == F::ICMP || protocol == AUTHENTICATION => None,
            _ => Some(Parsed::Other),
        }
    }

    #[inline(always)]
    fn parse_tcp(&mut self, context: &TcContext, transport: usize) -> Option<Parsed> {
        pull(context, transport + size_of::<TcpHeader>())?;
        let header: TcpHeader = read(context, transport)?;
        let length = (header.offset >> 4) * 4;
        if usize::from(length) < size_of::<TcpHeader>()
            || !self.has(size_of::<TcpHeader>() as u32, length.into())
        {
            return None;
        }
        self.segment = Segment {
            sequence: u32::from_be(header.sequence),
            acknowledgement: u32::from_be(header.acknowledgement),
            header: length,
            flags: header.flags,
            chunk: 0,
        };
        self.tuple.source_port = Port::from_wire(header.source_port);
        self.tuple.destination_port = Port::from_wire(header.destination_port);
        Some(Parsed::Transport)
    }

    #[inline(always)]
    fn parse_udp(&mut self, context: &TcContext, transport: usize) -> Option<Parsed> {
        pull(context, transport + size_of::<UdpHeader>())?;
        let header: UdpHeader = read(context, transport)?;
        let length = u32::from(u16::from_be(header.length));
        // A jumbogram (RFC 2675) says zero.
        if length != 0 && (length as usize) < size_of::<UdpHeader>()
            || !self.has(size_of::<UdpHeader>() as u32, length)
        {
            return None;
        }
        self.tuple.source_port = Port::from_wire(header.source_port);
        self.tuple.destination_port = Port::from_wire(header.destination_port);
        Some(Parsed::Transport)
    }

    /// Whether a packet has a transport header of this length, and what that says that there is
    /// with it, which of a first fragment comes later. Behind the packet's end is padding.
    #[inline(always)]
    pub(crate) fn has(&self, header: u32, length: u32) -> bool {
        let wanted = if self.part == Part::WHOLE { header.max(length) } else { header };
        u32::from(self.transport) + wanted <= self.end
    }

    /// Reads the packet that an ICMP error quotes from `network` on, and its ports. Its end may be
    /// missing.
    #[inline(never)]
    pub(crate) fn parse_quoted(&mut self, context: &TcContext, network: usize) -> bool {
        self.try_parse_quoted(context, network).is_some()
    }

    #[inline(always)]
    fn try_parse_quoted(&mut self, context: &TcContext, network: usize) -> Option<()> {
        // Behind a transport header that may lie so far in.
        let network = network.min(MAX_TRANSPORT + 8);
        pull(context, network + F::HEADER)?;
        self.parse_network(context, network)?;
        if self.part == Part::LATER
            || ![Protocol::TCP, Protocol::UDP, Protocol::SCTP].contains(&self.protocol)
        {
            return None;
        }
        let [source, destination]: [u16; 2] = context.load(self.transport.into()).ok()?;
        self.tuple.source_port = Port::from_wire(source);
        self.tuple.destination_port = Port::from_wire(destination);
        Some(())
    }

    /// Reads the network header, and makes everything else zero.
    #[inline(always)]
    fn parse_network(&mut self, context: &TcContext, network: usize) -> Option<()> {
        self.part = Part::WHOLE;
        self.network = network as u16;
        self.fragment_field = 0;
        self.identification = 0;
        self.segment = Segment::default();
        self.tuple.source_port = Port::ANY;
        self.tuple.destination_port = Port::ANY;
        F::parse(self, context, network)
    }

    /// Where the network header begins. What this is read from can be anything for the verifier.
    #[inline(always)]
    pub(crate) fn network(&self) -> usize {
        usize::from(self.network & 0xff)
    }

    /// Where the transport header begins, in a way that the verifier knows the bounds of.
    #[inline(always)]
    fn transport(&self) -> usize {
        usize::from(opaque(self.transport)).min(MAX_TRANSPORT)
    }

    /// Where the addresses begin.
    #[inline(always)]
    pub(crate) fn addresses(&self) -> usize {
        self.network() + F::ADDRESSES
    }

    /// Whether the frame has an Ethernet header.
    #[inline(always)]
    pub(crate) fn has_link_header(&self) -> bool {
        self.network() >= ETHERNET
    }

    /// Whether the packet is of TCP.
    #[inline(always)]
    pub(crate) fn is_tcp(&self) -> bool {
        self.protocol == Protocol::TCP
    }

    /// Whether the packet is of SCTP.
    #[inline(always)]
    pub(crate) fn is_sctp(&self) -> bool {
        self.protocol == Protocol::SCTP
    }

    /// Whether the packet is of UDP, which has no connections.
    #[inline(always)]
    pub(crate) fn is_datagram(&self) -> bool {
        self.protocol == Protocol::UDP
    }

    /// Whether the packet is a segment with exactly these of SYN, RST and ACK, or an SCTP packet
    /// that corresponds to one. Others have none of them.
    #[inline(always)]
    pub(crate) fn is_segment(&self, flags: u8) -> bool {
        self.segment.flags & (tcp::SYN | tcp::RST | tcp::ACK) == flags
    }

    /// Whether the packet can be the first of a flow: a SYN, an INIT, or any datagram.
    #[inline(always)]
    pub(crate) fn opens_flow(&self) -> bool {
        self.part != Part::LATER && (self.is_datagram() || self.is_segment(tcp::SYN))
    }

    /// Whether the packet is of a connection, and does not begin one.
    #[inline(always)]
    pub(crate) fn is_amid_connection(&self) -> bool {
        !self.is_datagram() && self.part != Part::LATER && !self.is_segment(tcp::SYN)
    }

    /// Where the checksum is.
    #[inline(always)]
    pub(crate) fn checksum(&self) -> usize {
        let place = match self.protocol {
            Protocol::TCP => 16,
            Protocol::SCTP => 8,
            _ => 6,
        };
        usize::from(self.transport) + place
    }
}
