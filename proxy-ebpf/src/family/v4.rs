// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! IPv4 (RFC 791) and its errors (RFC 792).

use aya_ebpf::{bindings::bpf_fib_lookup, programs::TcContext};
use proxy_common::{Family, Protocol, V4};

use super::{Datapath, Network};
use crate::{
    maps::{self, Tables},
    packet::{self, ETHERNET, read, store},
    rewrite::{fold, replace_header_checksum},
};

/// More fragments, and the fragment's offset.
const FRAGMENT: u16 = 0x3fff;
const CHECKSUM: usize = ETHERNET + 10;
const TIME_TO_LIVE: u8 = 64;
const ICMP: u8 = 1;

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
    const ADDRESSES: usize = ETHERNET + 12;
    const STORE_ADDRESSES: u64 = 0;
    const ADDRESS_FAMILY: u8 = 2;
    const HEADER: usize = size_of::<Header>();
    const LENGTH: usize = ETHERNET + 2;
    const LENGTH_FROM: usize = ETHERNET;

    #[inline(always)]
    fn tables() -> Tables<Self> {
        maps::v4()
    }

    #[inline(always)]
    fn parse(context: &TcContext) -> Option<Network<Self>> {
        let header: Header = read(context, ETHERNET)?;
        let words = u16::from(header.version_and_length & 0xf);
        if header.version_and_length >> 4 != 4
            || words < 5
            || u16::from_be(header.fragment) & FRAGMENT != 0
        {
            return None;
        }
        Some(Network {
            source: header.source,
            destination: header.destination,
            protocol: Protocol::new(header.protocol),
            transport: ETHERNET as u16 + 4 * words,
        })
    }

    #[inline(always)]
    fn adjust_header_checksum(context: &TcContext, difference: u32) -> Result<(), ()> {
        replace_header_checksum(context, CHECKSUM, 0, difference, 0)
    }

    #[inline(always)]
    fn renew_header(context: &TcContext, transport: usize, payload: u16) -> Result<(), ()> {
        let header: Header = read(context, ETHERNET).ok_or(())?;
        #[expect(clippy::cast_possible_truncation, reason = "at most 60 bytes of header")]
        let length = (payload + (transport - ETHERNET) as u16).to_be();
        replace_header_checksum(context, CHECKSUM, header.length.into(), length.into(), 2)?;
        store(context, Self::LENGTH, &length, 0)?;
        let old = u16::from_ne_bytes([header.time_to_live, header.protocol]);
        let new = u16::from_ne_bytes([TIME_TO_LIVE, header.protocol]);
        replace_header_checksum(context, CHECKSUM, old.into(), new.into(), 2)?;
        store(context, ETHERNET + 8, &new, 0)
    }

    #[inline(always)]
    fn write_unreachable(
        context: &TcContext,
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
                time_to_live: TIME_TO_LIVE,
                protocol: ICMP,
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
            u16::from_ne_bytes([TIME_TO_LIVE, ICMP]),
        ];
        let mut header_sum = Self::pseudo_header_sum(source, destination, Protocol::ANY, 0);
        for word in fixed {
            header_sum += u64::from(word);
        }
        error.header.checksum = !fold(header_sum);
        error.checksum = !fold(sum + u64::from(u16::from_ne_bytes([error.kind, error.code])));
        store(context, ETHERNET, &error, packet::RECOMPUTE)
    }

    #[inline(always)]
    fn next_hop(route: &bpf_fib_lookup) -> Self::Addr {
        // SAFETY: the kernel has left the address in network order, as its words lie in memory.
        unsafe { core::mem::transmute_copy(&route.__bindgen_anon_4.ipv4_dst) }
    }

    #[inline(always)]
    fn set_route(route: &mut bpf_fib_lookup, source: &Self::Addr, destination: &Self::Addr) {
        use proxy_common::Address;

        route.__bindgen_anon_3.ipv4_src = source.words()[0];
        route.__bindgen_anon_4.ipv4_dst = destination.words()[0];
    }
}
