// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! IPv6 (RFC 8200) and its errors (RFC 4443).

use aya_ebpf::{bindings::bpf_fib_lookup, programs::TcContext};
use proxy_common::{Family, Protocol, V6};

use super::{Datapath, Network};
use crate::{
    maps::{self, Tables},
    packet::{self, ETHERNET, read, store},
    rewrite::fold,
};

/// Extension headers that are walked over; a packet with more is not ours.
const MAX_EXTENSIONS: usize = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;
const ICMP: Protocol = Protocol::new(58);
const HOP_LIMIT: u8 = 64;

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
    const ADDRESSES: usize = ETHERNET + 8;
    const STORE_ADDRESSES: u64 = packet::RECOMPUTE;
    const ADDRESS_FAMILY: u8 = 10;
    const HEADER: usize = size_of::<Header>();
    const LENGTH: usize = ETHERNET + 4;
    const LENGTH_FROM: usize = ETHERNET + Self::HEADER;

    #[inline(always)]
    fn tables() -> Tables<Self> {
        maps::v6()
    }

    #[inline(always)]
    fn parse(context: &TcContext) -> Option<Network<Self>> {
        let header: Header = read(context, ETHERNET)?;
        let (protocol, transport) = match header.next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let walked = walk_extensions(context, header.next);
                #[expect(clippy::cast_possible_truncation, reason = "two numbers in one word")]
                let (protocol, transport) = ((walked >> 16) as u8, walked as u16);
                if transport == 0 {
                    return None;
                }
                (protocol, transport)
            }
            next => (next, (ETHERNET + Self::HEADER) as u16),
        };
        Some(Network {
            source: header.source,
            destination: header.destination,
            protocol: Protocol::new(protocol),
            transport,
        })
    }

    #[inline(always)]
    fn adjust_header_checksum(_context: &TcContext, _difference: u32) -> Result<(), ()> {
        Ok(())
    }

    #[inline(always)]
    fn renew_header(context: &TcContext, transport: usize, payload: u16) -> Result<(), ()> {
        #[expect(clippy::cast_possible_truncation, reason = "six extensions at most")]
        let extensions = (transport - ETHERNET - Self::HEADER) as u16;
        let length = (payload + extensions).to_be();
        store(context, Self::LENGTH, &length, packet::RECOMPUTE)?;
        store(context, ETHERNET + 7, &HOP_LIMIT, packet::RECOMPUTE)
    }

    #[inline(always)]
    fn write_unreachable(
        context: &TcContext,
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
                next: ICMP.number(),
                hop_limit: HOP_LIMIT,
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
                + Self::pseudo_header_sum(source, destination, ICMP, length),
        );
        store(context, ETHERNET, &error, packet::RECOMPUTE)
    }

    #[inline(always)]
    fn next_hop(route: &bpf_fib_lookup) -> Self::Addr {
        // SAFETY: the kernel has left the address in network order, as its words lie in memory.
        unsafe { core::mem::transmute_copy(&route.__bindgen_anon_4.ipv6_dst) }
    }

    #[inline(always)]
    fn set_route(route: &mut bpf_fib_lookup, source: &Self::Addr, destination: &Self::Addr) {
        // SAFETY: an address is its four words, in network order, as the kernel takes them.
        unsafe {
            route.__bindgen_anon_3.ipv6_src = core::mem::transmute_copy(source);
            route.__bindgen_anon_4.ipv6_dst = core::mem::transmute_copy(destination);
        }
    }
}

/// Walks over extension headers to the transport header: its protocol (bits 16 to 23) and its
/// offset (bits 0 to 15), or zero if the packet is not to be touched.
#[inline(never)]
fn walk_extensions(context: &TcContext, first: u8) -> u32 {
    let mut next = first;
    let mut transport = (ETHERNET + V6::HEADER) as u16;
    for _ in 0..=MAX_EXTENSIONS {
        if !matches!(next, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            return u32::from(next) << 16 | u32::from(transport);
        }
        let Ok(extension) = context.load::<Extension>(transport.into()) else {
            return 0;
        };
        // With segments left, the destination is a stop on the way.
        if next == ROUTING && extension.segments_left != 0 {
            return 0;
        }
        next = extension.next;
        transport = packet::opaque(transport + 8 * (u16::from(extension.length) + 1));
    }
    0
}
