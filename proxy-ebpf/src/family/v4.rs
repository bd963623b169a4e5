// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! IPv4 (RFC 791) and its errors (RFC 792).

use core::{mem, ptr};

use aya_ebpf::{
    bindings::bpf_fib_lookup,
    programs::{SockAddrContext, TcContext, XdpContext},
};
use proxy_common::{Address as _, Family, Protocol, V4, flow::Tuple};

use super::{Datapath, Message};
use crate::{
    frame::{Frame, RECOMPUTE, read, store},
    maps::{self, Tables},
    packet::{Packet, Part},
    rewrite::{fold, replace_header_checksum},
    xdp::frame::write,
};

/// Where the length, the fragment's place, and the time to live are in a header, in bytes.
const LENGTH: usize = 2;
const FRAGMENT: usize = 6;
const TIME_TO_LIVE: usize = 8;
const CHECKSUM: usize = 10;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;
const FRESH_TIME_TO_LIVE: u8 = 64;

/// A header without options.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version_and_length: u8,
    service: u8,
    length: u16,
    identification: u16,
    fragment: u16,
    time_to_live: u8,
    protocol: u8,
    checksum: u16,
    source: <V4 as Family>::Addr,
    destination: <V4 as Family>::Addr,
}

/// The end of a header from the time to live on, and ports.
#[repr(C)]
#[derive(Clone, Copy)]
struct End {
    before: u16,
    checksum: u16,
    to: Tuple<V4>,
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

impl Datapath for V4 {
    const ETHERTYPE: u16 = 0x0800;
    const ADDRESSES: usize = 12;
    const STORE_ADDRESSES: u64 = 0;
    const ADDRESS_FAMILY: u8 = 2;
    const HEADER: usize = size_of::<Header>();
    const HEADER_CHECKSUM: Option<usize> = Some(CHECKSUM);
    const ICMP: Protocol = Protocol::new(1);
    const ICMP_PSEUDO_HEADER: bool = false;

    #[inline(always)]
    fn tables() -> Tables<Self> {
        maps::v4()
    }

    #[inline(always)]
    fn parse(packet: &mut Packet<Self>, context: &TcContext, network: usize) -> Option<()> {
        let header: Header = read(context, network)?;
        packet.tuple.source = header.source;
        packet.tuple.destination = header.destination;
        let length = 4 * u16::from(header.version_and_length & 0xf);
        let total = u16::from_be(header.length);
        // The length of a very large packet that is to be cut (BIG TCP) is zero.
        if header.version_and_length >> 4 != 4
            || usize::from(length) < Self::HEADER
            || total != 0 && total < length
        {
            return None;
        }
        packet.protocol = Protocol::new(header.protocol);
        packet.transport = network as u16 + length;
        packet.end = if total == 0 { context.len() } else { network as u32 + u32::from(total) };
        let fragment = u16::from_be(header.fragment);
        if fragment & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0 {
            packet.part = if fragment & FRAGMENT_OFFSET == 0 { Part::FIRST } else { Part::LATER };
            packet.identification = header.identification.into();
            packet.fragment_field = (network + FRAGMENT) as u16;
        }
        Some(())
    }

    #[inline(always)]
    fn brief(context: &impl Frame, network: usize) -> Option<(Protocol, u32)> {
        let header: Header = read(context, network)?;
        if header.version_and_length != 0x45
            || header.fragment & (MORE_FRAGMENTS | FRAGMENT_OFFSET).to_be() != 0
        {
            return None;
        }
        // The length of a very large packet that is to be cut (BIG TCP) is zero.
        let end = match u16::from_be(header.length) {
            0 => context.length(),
            total => network as u32 + u32::from(total),
        };
        Some((Protocol::new(header.protocol), end))
    }

    #[inline(always)]
    fn time_to_live(context: &impl Frame, network: usize) -> u8 {
        // With the protocol: the verifier does not know the bounds of a single byte.
        read(context, network + TIME_TO_LIVE).map_or(0, |[hops, _]: [u8; 2]| hops)
    }

    #[inline(always)]
    fn age(context: &TcContext, network: usize) -> Result<(), ()> {
        let at = network + TIME_TO_LIVE;
        let [before, checksum]: [u16; 2] = read(context, at).ok_or(())?;
        let [time_to_live, protocol] = before.to_ne_bytes();
        let after = u16::from_ne_bytes([time_to_live.wrapping_sub(1), protocol]);
        // RFC 1624. A complete checksum of the frame stays as it is: the header's makes up for it.
        let checksum = !fold(u64::from(!checksum) + u64::from(!before) + u64::from(after));
        store(context, at, &[after, checksum], 0)
    }

    #[inline(always)]
    fn forward(
        context: &XdpContext,
        network: usize,
        to: &Tuple<Self>,
        difference: u32,
    ) -> Option<()> {
        let at = network + TIME_TO_LIVE;
        let [before, checksum]: [u16; 2] = read(context, at)?;
        let [time_to_live, protocol] = before.to_ne_bytes();
        if time_to_live <= 1 {
            return None;
        }
        let after = u16::from_ne_bytes([time_to_live - 1, protocol]);
        // RFC 1624.
        let sum = u64::from(!checksum) + u64::from(!before) + u64::from(after);
        let checksum = !fold(sum + u64::from(difference));
        write(context, at, &End { before: after, checksum, to: *to })
    }

    #[inline(always)]
    fn store_tuple(
        context: &TcContext,
        network: usize,
        to: &Tuple<Self>,
        difference: u32,
    ) -> Result<(), ()> {
        let at = network + TIME_TO_LIVE;
        let [before, checksum]: [u16; 2] = read(context, at).ok_or(())?;
        // RFC 1624.
        let checksum = !fold(u64::from(!checksum) + u64::from(difference));
        store(context, at, &End { before, checksum, to: *to }, 0)
    }

    #[inline(always)]
    fn fragment_protocol(protocol: Protocol) -> Protocol {
        protocol
    }

    /// The types are in RFC 792 and RFC 950.
    #[inline(always)]
    fn message(kind: u8) -> Message {
        match kind {
            3 | 11 | 12 => Message::Error,
            0 | 8 | 13..=18 => Message::Query,
            _ => Message::Control,
        }
    }

    #[inline(always)]
    fn renew_header(context: &TcContext, packet: &Packet<Self>, payload: u16) -> Result<(), ()> {
        let network = packet.network();
        let header: Header = read(context, network).ok_or(())?;
        let replace = |at, old: u16, new: u16| {
            replace_header_checksum(context, network + CHECKSUM, old.into(), new.into(), 2)?;
            store(context, network + at, &new, 0)
        };
        let length = payload + packet.transport - network as u16;
        replace(LENGTH, header.length, length.to_be())?;
        replace(FRAGMENT, header.fragment, header.fragment & DONT_FRAGMENT.to_be())?;
        let old = u16::from_ne_bytes([header.time_to_live, header.protocol]);
        replace(TIME_TO_LIVE, old, u16::from_ne_bytes([FRESH_TIME_TO_LIVE, header.protocol]))
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
        const LENGTH: u16 = size_of::<Error>() as u16;
        let mut error = Error {
            header: Header {
                version_and_length: 0x45,
                // Internetwork control, as RFC 1812 section 4.3.2.5 asks of errors.
                service: 0xc0,
                length: (LENGTH + quoted).to_be(),
                identification: 0,
                fragment: 0,
                time_to_live: FRESH_TIME_TO_LIVE,
                protocol: Self::ICMP.number(),
                checksum: 0,
                source: *source,
                destination: *destination,
            },
            kind: 3,
            code: 3,
            checksum: 0,
            unused: 0,
        };
        // All that is not an address or zero, in 16-bit words.
        let fixed = [
            u16::from_ne_bytes([0x45, 0xc0]),
            error.header.length,
            u16::from_ne_bytes([FRESH_TIME_TO_LIVE, Self::ICMP.number()]),
        ];
        let mut header_sum = Self::pseudo_header_sum(source, destination, Protocol::ANY, 0);
        for word in fixed {
            header_sum += u64::from(word);
        }
        error.header.checksum = !fold(header_sum);
        error.checksum = !fold(sum + u64::from(u16::from_ne_bytes([error.kind, error.code])));
        store(context, network, &error, RECOMPUTE)
    }

    #[inline(always)]
    fn next_hop(route: &bpf_fib_lookup) -> Self::Addr {
        // SAFETY: the kernel has left the address in network order, as its words lie in memory.
        unsafe { mem::transmute_copy(&route.__bindgen_anon_4.ipv4_dst) }
    }

    #[inline(always)]
    fn set_route(route: &mut bpf_fib_lookup, source: &Self::Addr, destination: &Self::Addr) {
        route.__bindgen_anon_3.ipv4_src = source.words()[0];
        route.__bindgen_anon_4.ipv4_dst = destination.words()[0];
    }

    #[inline(always)]
    fn named(context: &SockAddrContext) -> Self::Addr {
        // SAFETY: the kernel gives programs a valid context, and reads of a field must be of the
        // field as a whole; an address is its word.
        unsafe {
            let field = ptr::read_volatile(&raw const (*context.sock_addr).user_ip4);
            mem::transmute(field)
        }
    }

    #[inline(always)]
    fn rename(context: &SockAddrContext, address: &Self::Addr) {
        let [word] = *address.words() else { return };
        // SAFETY: as above.
        unsafe { ptr::write_volatile(&raw mut (*context.sock_addr).user_ip4, word) };
    }
}
