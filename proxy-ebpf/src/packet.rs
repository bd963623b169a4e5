// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Reading and writing packets.

use core::ptr;

use aya_ebpf::{bindings::BPF_F_RECOMPUTE_CSUM, programs::TcContext};
use proxy_common::{Address, Port, Protocol, flow::Tuple};

use crate::family::Datapath;

/// The length of an Ethernet header, in bytes.
pub(crate) const ETHERNET: usize = 14;
/// Where a transport header can begin at the latest: behind IPv4's longest header, and IPv6's with
/// some extensions.
const MAX_TRANSPORT: usize = 120;
/// The flag of stores that a complete checksum of the frame must follow.
pub(crate) const RECOMPUTE: u64 = BPF_F_RECOMPUTE_CSUM as u64;

/// `skb->pkt_type` of a frame to the device's own MAC address (`if_packet.h`).
pub(crate) const PACKET_HOST: u32 = 0;
/// `skb->pkt_type` of a unicast frame to another MAC address (`if_packet.h`).
pub(crate) const PACKET_OTHERHOST: u32 = 3;

/// Bits of a TCP header's flags.
pub(crate) mod tcp {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 1 << 1;
    pub(crate) const RST: u8 = 1 << 2;
    pub(crate) const ACK: u8 = 1 << 4;
}

/// What TCP says beyond ports.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Segment {
    /// In the machine's order.
    pub(crate) sequence: u32,
    /// In the machine's order.
    pub(crate) acknowledgement: u32,
    /// The header's length, in bytes.
    pub(crate) header: u8,
    pub(crate) flags: u8,
}

/// A packet that may be ours.
#[repr(C)]
pub(crate) struct Packet<F: Datapath> {
    pub(crate) tuple: Tuple<F>,
    pub(crate) protocol: Protocol,
    /// Where the transport header begins, in bytes from the beginning of the frame.
    pub(crate) transport: u16,
    /// All zero unless the protocol is TCP.
    pub(crate) segment: Segment,
}

/// A TCP header without options.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TcpHeader {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) offset: u8,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) checksum: u16,
    pub(crate) urgent: u16,
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
    /// Reads a packet, if it is TCP or UDP between unicast addresses and whole. Who has no address
    /// yet (`0.0.0.0`, `::`) cannot be answered (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
    #[inline(never)]
    pub(crate) fn parse(&mut self, context: &TcContext) -> bool {
        self.try_parse(context).is_some()
    }

    #[inline(always)]
    fn try_parse(&mut self, context: &TcContext) -> Option<()> {
        pull(context, ETHERNET + F::HEADER + size_of::<TcpHeader>())?;
        let network = F::parse(context)?;
        if network.destination.is_multicast()
            || network.destination.is_link_local()
            || network.source.is_multicast()
            || network.source.is_link_local()
            || network.source.words().iter().all(|word| *word == 0)
        {
            return None;
        }
        let transport = usize::from(opaque(network.transport));
        if transport > MAX_TRANSPORT {
            return None;
        }
        if transport > ETHERNET + F::HEADER {
            pull(context, transport + size_of::<TcpHeader>())?;
        }
        let (source_port, destination_port) = match network.protocol {
            Protocol::TCP => {
                let header: TcpHeader = read(context, transport)?;
                self.segment = Segment {
                    sequence: u32::from_be(header.sequence),
                    acknowledgement: u32::from_be(header.acknowledgement),
                    header: (header.offset >> 4) * 4,
                    flags: header.flags,
                };
                (header.source_port, header.destination_port)
            }
            Protocol::UDP => {
                let header: UdpHeader = read(context, transport)?;
                self.segment = Segment::default();
                (header.source_port, header.destination_port)
            }
            _ => return None,
        };
        self.tuple.source = network.source;
        self.tuple.destination = network.destination;
        self.tuple.source_port = Port::from_wire(source_port);
        self.tuple.destination_port = Port::from_wire(destination_port);
        self.protocol = network.protocol;
        self.transport = network.transport;
        Some(())
    }

    /// Whether the packet is of TCP.
    #[inline(always)]
    pub(crate) fn is_tcp(&self) -> bool {
        self.protocol == Protocol::TCP
    }

    /// Whether the packet is a TCP segment with exactly these of SYN, RST and ACK.
    #[inline(always)]
    pub(crate) fn is_segment(&self, flags: u8) -> bool {
        self.is_tcp() && self.segment.flags & (tcp::SYN | tcp::RST | tcp::ACK) == flags
    }

    /// Whether the packet can be the first of a flow: a SYN, or any datagram.
    #[inline(always)]
    pub(crate) fn opens_flow(&self) -> bool {
        !self.is_tcp() || self.is_segment(tcp::SYN)
    }

    /// Where the checksum is, in bytes from the beginning of the frame.
    #[inline(always)]
    pub(crate) fn checksum(&self) -> usize {
        usize::from(self.transport) + if self.is_tcp() { 16 } else { 6 }
    }
}

/// The Ethernet type of a frame that is not tagged; zero for one that is: it belongs to the VLAN's
/// own device.
#[inline(always)]
pub(crate) fn ethertype(context: &TcContext) -> u16 {
    // SAFETY: the kernel gives programs a valid context.
    let skb = unsafe { &*context.skb.skb };
    if skb.vlan_present != 0 {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a 16-bit field of the kernel's")]
    let protocol = skb.protocol as u16;
    u16::from_be(protocol)
}

/// Whom the frame is addressed to (`PACKET_HOST` and so on).
#[inline(always)]
pub(crate) fn packet_type(context: &TcContext) -> u32 {
    // SAFETY: the kernel gives programs a valid context.
    unsafe { (*context.skb.skb).pkt_type }
}

/// The index of the device that the frame is at.
#[inline(always)]
pub(crate) fn device(context: &TcContext) -> u32 {
    // SAFETY: the kernel gives programs a valid context.
    unsafe { (*context.skb.skb).ifindex }
}

/// Makes sure that the first bytes of a frame are in its linear part, where they can be read, as
/// far as it has them. What a local socket sends has its headers there: to ask the kernel without
/// need would cost a copy of each such packet's head.
#[inline(always)]
fn pull(context: &TcContext, wanted: usize) -> Option<()> {
    let wanted = context.len().min(wanted as u32);
    if context.data() + wanted as usize > context.data_end() {
        context.pull_data(wanted).ok()?;
    }
    Some(())
}

/// Makes a number opaque to the verifier, which otherwise follows every value that it can have
/// through the rest of the program on its own.
#[inline(always)]
pub(crate) fn opaque(number: u16) -> u16 {
    let mut whole = 0_u16;
    let bytes: *mut u8 = (&raw mut whole).cast();
    let [low, high] = number.to_ne_bytes();
    // SAFETY: the two bytes of this function's own number. The verifier follows what is read as it
    // was written, not what is put together.
    unsafe {
        bytes.write_volatile(low);
        bytes.add(1).write_volatile(high);
        (&raw const whole).read_volatile()
    }
}

/// Reads a value at an offset of the frame's linear part.
///
/// `T` must be valid for any bytes.
#[inline(always)]
pub(crate) fn read<T: Copy>(context: &TcContext, offset: usize) -> Option<T> {
    let start = context.data() + offset;
    if start + size_of::<T>() > context.data_end() {
        return None;
    }
    // SAFETY: within the packet, as just checked; headers are not aligned there.
    Some(unsafe { ptr::read_unaligned(start as *const T) })
}

/// Writes a value at an offset of the frame.
#[inline(always)]
pub(crate) fn store<T>(
    context: &TcContext,
    offset: usize,
    value: &T,
    flags: u64,
) -> Result<(), ()> {
    context.store(offset, value, flags).map_err(|_| ())
}

/// Turns the frame around: its MAC addresses change places.
#[inline(always)]
pub(crate) fn swap_mac_addresses(context: &TcContext) -> Result<(), ()> {
    pull(context, ETHERNET).ok_or(())?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]: [u8; 12] = read(context, 0).ok_or(())?;
    store(context, 0, &[s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5], 0)
}
