// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! IPv6 (RFC 8200) and its errors (RFC 4443).

use core::{mem, ptr};

use aya_ebpf::{
    bindings::bpf_fib_lookup,
    helpers::generated::bpf_csum_update,
    programs::{SockAddrContext, TcContext, XdpContext},
};
use proxy_common::{Address as _, Family, Protocol, V6, counter::Reason, flow::Tuple};

use super::{Datapath, Message};
use crate::{
    counter::count,
    frame::{Frame, RECOMPUTE, opaque, read, store},
    maps::{self, Tables},
    packet::{Packet, Part},
    rewrite::fold,
    xdp::frame::write,
};

/// Where the length and the hop limit are in a header, in bytes.
const LENGTH: usize = 4;
const HOP_LIMIT: usize = 7;

/// Extension headers that are walked over, and their bytes; a packet with more is not ours.
const MAX_EXTENSIONS: usize = 6;
const MAX_EXTENSION_BYTES: u16 = 64;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
const FRESH_HOP_LIMIT: u8 = 64;

/// The fixed header.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version_class_flow: u32,
    length: u16,
    next: u8,
    hop_limit: u8,
    source: <V6 as Family>::Addr,
    destination: <V6 as Family>::Addr,
}

/// What the extension headers that are walked over begin with.
#[repr(C)]
#[derive(Clone, Copy)]
struct Extension {
    next: u8,
    /// In units of eight bytes, without the first eight.
    length: u8,
    routing_type: u8,
    segments_left: u8,
}

/// The header of a fragment.
#[repr(C)]
#[derive(Clone, Copy)]
struct Fragment {
    next: u8,
    reserved: u8,
    /// The offset in its upper 13 bits, whether there are more in its lowest.
    place: u16,
    identification: u32,
}

/// The headers of an ICMP error.
#[repr(C)]
struct Error {
    header: Header,
    kind: u8,
    code: u8,
    checksum: u16,
    unused: u32,
}

impl Datapath for V6 {
    const ETHERTYPE: u16 = 0x86dd;
    const ADDRESSES: usize = 8;
    const STORE_ADDRESSES: u64 = RECOMPUTE;
    const ADDRESS_FAMILY: u8 = 10;
    const HEADER: usize = size_of::<Header>();
    const HEADER_CHECKSUM: Option<usize> = None;
    const ICMP: Protocol = Protocol::new(58);
    const ICMP_PSEUDO_HEADER: bool = true;

    #[inline(always)]
    fn tables() -> Tables<Self> {
        maps::v6()
    }

    #[inline(always)]
    fn parse(packet: &mut Packet<Self>, context: &TcContext, network: usize) -> Option<()> {
        let header: Header = read(context, network)?;
        packet.tuple.source = header.source;
        packet.tuple.destination = header.destination;
        if u32::from_be(header.version_class_flow) >> 28 != 6 {
            return None;
        }
        packet.protocol = Protocol::new(header.next);
        packet.transport = (network + Self::HEADER) as u16;
        // The length of a jumbogram (RFC 2675), or of a very large packet that is to be cut (BIG
        // TCP), is zero.
        packet.end = match u16::from_be(header.length) {
            0 => context.len(),
            length => (network + Self::HEADER) as u32 + u32::from(length),
        };
        match header.next {
            HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS => {
                walk_extensions(packet, context).then_some(())
            }
            _ => Some(()),
        }
    }

    #[inline(always)]
    fn brief(context: &impl Frame, network: usize) -> Option<(Protocol, u32)> {
        let header: Header = read(context, network)?;
        if u32::from_be(header.version_class_flow) >> 28 != 6 {
            return None;
        }
        // See `parse`.
        let end = match u16::from_be(header.length) {
            0 => context.length(),
            length => (network + Self::HEADER) as u32 + u32::from(length),
        };
        Some((Protocol::new(header.next), end))
    }

    #[inline(always)]
    fn time_to_live(context: &impl Frame, network: usize) -> u8 {
        // With the next header: the verifier does not know the bounds of a single byte.
        read(context, network + HOP_LIMIT - 1).map_or(0, |[_, hops]: [u8; 2]| hops)
    }

    #[inline(always)]
    fn age(context: &TcContext, network: usize) -> Result<(), ()> {
        let hop_limit = Self::time_to_live(context, network);
        store(context, network + HOP_LIMIT, &hop_limit.wrapping_sub(1), RECOMPUTE)
    }

    #[inline(always)]
    fn forward(context: &XdpContext, network: usize, to: &Tuple<Self>, _: u32) -> Option<()> {
        let hop_limit: u8 = read(context, network + HOP_LIMIT)?;
        if hop_limit <= 1 {
            return None;
        }
        write(context, network + HOP_LIMIT, &(hop_limit - 1))?;
        write(context, network + Self::ADDRESSES, to)
    }

    #[inline(always)]
    fn store_tuple(
        context: &TcContext,
        network: usize,
        to: &Tuple<Self>,
        difference: u32,
    ) -> Result<(), ()> {
        store(context, network + Self::ADDRESSES, to, 0)?;
        // No header checksum balances the change: a complete checksum of the frame must follow it.
        // Without one, there is nothing to do.
        // SAFETY: the kernel gives programs a valid context.
        let _: i64 = unsafe { bpf_csum_update(context.skb.skb.cast(), difference) };
        Ok(())
    }

    /// None: only the first fragment names one.
    #[inline(always)]
    fn fragment_protocol(_protocol: Protocol) -> Protocol {
        Protocol::ANY
    }

    /// The types are in RFC 4443; what is not an error or an echo is for neighbours (RFC 4861,
    /// RFC 3810).
    #[inline(always)]
    fn message(kind: u8) -> Message {
        match kind {
            1..=4 => Message::Error,
            128 | 129 => Message::Query,
            _ => Message::Control,
        }
    }

    #[inline(always)]
    fn renew_header(context: &TcContext, packet: &Packet<Self>, payload: u16) -> Result<(), ()> {
        let network = packet.network();
        let extensions = packet.transport - (network + Self::HEADER) as u16;
        store(context, network + LENGTH, &(payload + extensions).to_be(), RECOMPUTE)?;
        store(context, network + HOP_LIMIT, &FRESH_HOP_LIMIT, RECOMPUTE)?;
        if packet.fragment_field != 0 {
            // A fragment header that stands before a whole packet (RFC 6946).
            store(context, packet.fragment_field.into(), &0_u16, RECOMPUTE)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn write_unreachable(
        context: &TcContext,
        network: usize,
        source: &Self::Addr,
        destination: &Self::Addr,
        quoted: u16,
        sum: u64,
    ) -> Result<(), ()> {
        let length = quoted + 8;
        let mut error = Error {
            header: Header {
                version_class_flow: 0x6000_0000_u32.to_be(),
                length: length.to_be(),
                next: Self::ICMP.number(),
                hop_limit: FRESH_HOP_LIMIT,
                source: *source,
                destination: *destination,
            },
            kind: 1,
            code: 4,
            checksum: 0,
            unused: 0,
        };
        error.checksum = !fold(
            sum + u64::from(u16::from_ne_bytes([error.kind, error.code]))
                + Self::pseudo_header_sum(source, destination, Self::ICMP, length),
        );
        store(context, network, &error, RECOMPUTE)
    }

    #[inline(always)]
    fn next_hop(route: &bpf_fib_lookup) -> Self::Addr {
        // SAFETY: the kernel has left the address in network order, as its words lie in memory.
        unsafe { mem::transmute_copy(&route.__bindgen_anon_4.ipv6_dst) }
    }

    #[inline(always)]
    fn set_route(route: &mut bpf_fib_lookup, source: &Self::Addr, destination: &Self::Addr) {
        // SAFETY: an address is its four words, in network order, as the kernel takes them.
        unsafe {
            route.__bindgen_anon_3.ipv6_src = mem::transmute_copy(source);
            route.__bindgen_anon_4.ipv6_dst = mem::transmute_copy(destination);
        }
    }

    #[inline(always)]
    fn named(context: &SockAddrContext) -> Self::Addr {
        // SAFETY: the kernel gives programs a valid context, and reads of a field must be word by
        // word; an address is its words.
        unsafe {
            let words = &raw const (*context.sock_addr).user_ip6;
            let word = |at| ptr::read_volatile(words.cast::<u32>().add(at));
            mem::transmute([word(0), word(1), word(2), word(3)])
        }
    }

    #[inline(always)]
    fn rename(context: &SockAddrContext, address: &Self::Addr) {
        for (at, word) in address.words().iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                let words = &raw mut (*context.sock_addr).user_ip6;
                ptr::write_volatile(words.cast::<u32>().add(at), *word);
            }
        }
    }
}

/// Walks over extension headers to the transport header, or to the end of what a later fragment
/// has of them; says whether the packet may be touched. One with more headers than are walked over
/// may not, and is counted.
#[inline(never)]
fn walk_extensions(packet: &mut Packet<V6>, context: &TcContext) -> bool {
    let first = packet.transport;
    let mut next = packet.protocol.number();
    let mut at = first;
    for _ in 0..=MAX_EXTENSIONS {
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let Ok(extension) = context.load::<Extension>(at.into()) else {
                    return false;
                };
                // With segments left, the destination is a stop on the way.
                if next == ROUTING && extension.segments_left != 0 {
                    return false;
                }
                next = extension.next;
                at = opaque(at + 8 * (u16::from(extension.length) + 1));
            }
            FRAGMENT if packet.fragment_field == 0 => {
                let Ok(fragment) = context.load::<Fragment>(at.into()) else {
                    return false;
                };
                packet.fragment_field = at + 2;
                packet.identification = fragment.identification;
                let place = u16::from_be(fragment.place);
                if place & !7 != 0 {
                    packet.part = Part::LATER;
                    // The first fragment alone says what the packet is.
                    packet.protocol = Protocol::ANY;
                    return u32::from(at) + size_of::<Fragment>() as u32 <= packet.end;
                }
                if place & 1 != 0 {
                    packet.part = Part::FIRST;
                }
                next = fragment.next;
                at = opaque(at + size_of::<Fragment>() as u16);
            }
            // A fragment of a fragment.
            FRAGMENT => return false,
            _ => {
                packet.protocol = Protocol::new(next);
                packet.transport = at;
                return u32::from(at) <= packet.end;
            }
        }
        if at.wrapping_sub(first) > MAX_EXTENSION_BYTES {
            break;
        }
    }
    count::<V6>(Reason::PassExtensionHeaders);
    false
}
