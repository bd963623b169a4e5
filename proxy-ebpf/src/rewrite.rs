// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Rewriting the addresses and ports of a packet, and its checksums.
//!
//! A packet's transport checksum may be complete, partial (the sum of the pseudo header alone,
//! to be completed by the device: what pods send) or not there (UDP over IPv4); the kernel's
//! helpers tell them apart, so nothing here writes a checksum by hand. A segment of a large send
//! (GSO) is like any other: its headers are copied when it is cut. SCTP's is of another kind, for
//! which there is no helper: see [`rewrite_ports`].

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    programs::TcContext,
};
use proxy_common::{
    Address, Protocol,
    counter::Reason,
    flow::{FlowKey, Tuple},
};

use crate::{
    family::Datapath,
    frame::store,
    packet::{Packet, Part},
    sctp::rewrite_ports,
};

/// Where the checksum is in a header of TCP and of UDP, in bytes.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// Gives a packet other addresses and ports. If it says no, the packet may be half rewritten and
/// must be dropped.
#[inline(always)]
pub(crate) fn rewrite<F: Datapath>(context: &TcContext, packet: &Packet<F>, to: &Tuple<F>) -> bool {
    try_rewrite(context, packet, to).is_ok()
}

/// Why a packet could not be rewritten.
#[inline(always)]
pub(crate) fn failure<F: Datapath>(packet: &Packet<F>) -> Reason {
    if packet.is_sctp() && packet.part == Part::FIRST {
        Reason::DropSctpFragment
    } else {
        Reason::DropRewrite
    }
}

#[inline(always)]
fn try_rewrite<F: Datapath>(
    context: &TcContext,
    packet: &Packet<F>,
    to: &Tuple<F>,
) -> Result<(), ()> {
    let from = &packet.tuple;
    // Without a checksum, UDP keeps none; and what becomes zero is written as 0xffff.
    let udp = if packet.is_tcp() { 0 } else { u64::from(BPF_F_MARK_MANGLED_0) };

    let difference = carry(addresses_difference(from, to));
    F::adjust_header_checksum(context, packet.network(), difference)?;
    // A fragment that is not the first has neither checksum nor ports. SCTP's covers no addresses.
    if packet.part != Part::LATER && !packet.is_sctp() {
        adjust_checksum(context, packet, difference, udp | u64::from(BPF_F_PSEUDO_HDR))?;
    }
    // The two addresses lie in a tuple as they lie in a header.
    let addresses = [to.source, to.destination];
    store(context, packet.addresses(), &addresses, F::STORE_ADDRESSES)?;

    if packet.part != Part::LATER
        && (from.source_port != to.source_port || from.destination_port != to.destination_port)
    {
        if packet.is_sctp() {
            return if rewrite_ports(context, packet, to) { Ok(()) } else { Err(()) };
        }
        adjust_checksum(context, packet, carry(ports_difference(from, to)), udp)?;
        let ports = [to.source_port.to_wire(), to.destination_port.to_wire()];
        store(context, packet.transport.into(), &ports, 0)?;
    }
    Ok(())
}

/// What a change of the addresses adds to a one's complement sum, not folded.
#[inline(always)]
pub(crate) fn addresses_difference<F: Datapath>(from: &Tuple<F>, to: &Tuple<F>) -> u64 {
    // The complement of a word is all ones without it: those of all words are taken at once.
    let mut sum = u64::from(u32::MAX) * 2 * from.source.words().len() as u64;
    for (old, new) in [(&from.source, &to.source), (&from.destination, &to.destination)] {
        for (old, new) in old.words().iter().zip(new.words()) {
            sum += u64::from(*new);
            sum -= u64::from(*old);
        }
    }
    sum
}

/// What a change of the ports adds to a one's complement sum, not folded.
#[inline(always)]
pub(crate) fn ports_difference<F: Datapath>(from: &Tuple<F>, to: &Tuple<F>) -> u64 {
    u64::from(u16::MAX) * 2
        + u64::from(to.source_port.to_wire())
        + u64::from(to.destination_port.to_wire())
        - u64::from(from.source_port.to_wire())
        - u64::from(from.destination_port.to_wire())
}

/// Adds a difference to a packet's transport checksum.
#[inline(always)]
fn adjust_checksum<F: Datapath>(
    context: &TcContext,
    packet: &Packet<F>,
    difference: u32,
    flags: u64,
) -> Result<(), ()> {
    context.l4_csum_replace(packet.checksum(), 0, difference.into(), flags).map_err(|_| ())
}

/// Replaces a part of a network header in its checksum: `size` bytes (2 or 4), or a difference of
/// sums (0).
#[inline(always)]
pub(crate) fn replace_header_checksum(
    context: &TcContext,
    offset: usize,
    from: u32,
    to: u32,
    size: u64,
) -> Result<(), ()> {
    context.l3_csum_replace(offset, from.into(), to.into(), size).map_err(|_| ())
}

/// A one's complement sum in 32 bits.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the upper half has been added")]
pub(crate) fn carry(sum: u64) -> u32 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    ((sum >> 32) + sum) as u32
}

/// A one's complement sum in 16 bits.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the upper halves have been added")]
pub(crate) fn fold(sum: u64) -> u16 {
    let sum = u64::from(carry(sum));
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + sum) as u16
}

/// Gives a whole packet without options other addresses and ports, with as few calls of helpers as that
/// takes.
#[inline(always)]
pub(crate) fn rewrite_whole<F: Datapath>(
    context: &TcContext,
    network: usize,
    key: &FlowKey<F>,
    to: &Tuple<F>,
) -> Result<(), ()> {
    let from = &key.tuple;
    let (checksum, udp) = if key.protocol == Protocol::TCP {
        (network + F::HEADER + TCP_CHECKSUM, 0)
    } else {
        (network + F::HEADER + UDP_CHECKSUM, u64::from(BPF_F_MARK_MANGLED_0))
    };
    let adjust = |difference: u32, flags| {
        context.l4_csum_replace(checksum, 0, difference.into(), udp | flags).map_err(|_| ())
    };
    let addresses = carry(addresses_difference(from, to));
    F::store_tuple(context, network, to, addresses)?;
    adjust(addresses, BPF_F_PSEUDO_HDR.into())?;
    if from.source_port != to.source_port || from.destination_port != to.destination_port {
        adjust(carry(ports_difference(from, to)), 0)?;
    }
    Ok(())
}
