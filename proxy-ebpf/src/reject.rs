// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Refusing: a TCP RST, an SCTP ABORT or an ICMP port unreachable, built from the packet and sent
//! back.
//!
//! TCP gets a RST rather than an ICMP error: a blocking `connect` then fails at once, where Linux
//! takes an ICMP error for a passing trouble and goes on trying for a second.

use core::hint;

use aya_ebpf::{
    bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    helpers::generated::{
        bpf_csum_diff, bpf_skb_change_head, bpf_skb_change_tail, bpf_skb_load_bytes,
    },
    programs::TcContext,
};
use proxy_common::{Protocol, counter::Reason};

use crate::{
    abort::abort,
    blame::blame,
    family::Datapath,
    frame::{ETHERNET, RECOMPUTE, store, swap_mac_addresses},
    hairpin::{Back, send_back},
    maps::BUDGETS,
    packet::Packet,
    rewrite::{carry, fold},
    tcp::{self, TcpHeader},
    verdict::Verdict,
    work::Work,
};

/// How much of a refused packet an ICMP error quotes, in bytes: its headers and some more. RFC 792
/// asks for 8 bytes behind the network header, RFC 4443 for what fits. A power of two.
const QUOTE: usize = 128;
/// What an ICMP error quotes: a whole number of words.
pub(crate) type Quote = [u64; QUOTE / size_of::<u64>()];
/// The length of an ICMP error's own header, in bytes.
const ICMP_HEADER: usize = 8;
/// The length of a TCP header without options, in bytes.
const TCP_HEADER: u16 = size_of::<TcpHeader>() as u16;

/// Refuses a packet, within this processor's budget.
#[inline(always)]
pub(crate) fn refuse<F: Datapath>(
    context: &TcContext,
    work: &mut Work<F>,
    reason: Reason,
    back: Back,
) -> Verdict {
    // SAFETY: a row of a per-processor array is this processor's alone while a program runs.
    let budget = BUDGETS.get_ptr_mut(0).map(|budget| unsafe { &mut *budget });
    if !budget.is_some_and(|budget| budget.take(work.now)) {
        blame(work, Reason::DropRejectLimit);
        return Verdict::Drop;
    }
    let built = match work.packet.protocol {
        Protocol::TCP => reset(context, &work.packet),
        Protocol::SCTP => abort(context, &work.packet),
        _ => unreachable(context, work),
    };
    if !built || !is_ready(context, &work.packet, back) {
        blame(work, Reason::DropRejectFailed);
        return Verdict::Drop;
    }
    blame(work, reason);
    send_back(context, back)
}

/// Gives a frame that is to go another way the room of an Ethernet header, if it has none: the kernel
/// takes one off, whatever there is (`__bpf_redirect_neigh` in `net/core/filter.c`).
#[inline(always)]
fn is_ready<F: Datapath>(context: &TcContext, packet: &Packet<F>, back: Back) -> bool {
    if !matches!(back, Back::Route(_)) || packet.has_link_header() {
        return true;
    }
    // SAFETY: the kernel gives programs a valid context.
    unsafe { bpf_skb_change_head(context.skb.skb, ETHERNET as u32, 0) == 0 }
}

/// Turns a segment into the RST that answers it (RFC 9293 section 3.10.7.1).
#[inline(never)]
fn reset<F: Datapath>(context: &TcContext, packet: &Packet<F>) -> bool {
    try_reset(context, packet).is_ok()
}

#[inline(always)]
fn try_reset<F: Datapath>(context: &TcContext, packet: &Packet<F>) -> Result<(), ()> {
    let segment = packet.segment;
    let (sequence, acknowledgement, flags) = if segment.flags & tcp::ACK != 0 {
        (segment.acknowledgement, 0, tcp::RST)
    } else {
        // What the segment takes up of the sequence: its data, its SYN and its FIN.
        let headers = u32::from(packet.transport) + u32::from(segment.header);
        let data = packet.end.saturating_sub(headers);
        let marks = u32::from(segment.flags & tcp::SYN != 0) + u32::from(segment.flags & tcp::FIN);
        (0, segment.sequence.wrapping_add(data + marks), tcp::RST | tcp::ACK)
    };
    let mut header = TcpHeader {
        source_port: packet.tuple.destination_port.to_wire(),
        destination_port: packet.tuple.source_port.to_wire(),
        sequence: sequence.to_be(),
        acknowledgement: acknowledgement.to_be(),
        offset: 5 << 4,
        flags,
        window: 0,
        checksum: 0,
        urgent: 0,
    };
    change_tail(context, u32::from(packet.transport) + u32::from(TCP_HEADER))?;
    F::renew_header(context, packet, TCP_HEADER)?;
    let addresses = [packet.tuple.destination, packet.tuple.source];
    store(context, packet.addresses(), &addresses, F::STORE_ADDRESSES)?;

    let pseudo = F::pseudo_header_sum(
        &packet.tuple.destination,
        &packet.tuple.source,
        Protocol::TCP,
        TCP_HEADER,
    );
    header.checksum = if is_checksum_partial(context, packet)? {
        fold(pseudo)
    } else {
        // SAFETY: the pointer and the size are the header's.
        let sum = unsafe {
            bpf_csum_diff(core::ptr::null_mut(), 0, (&raw mut header).cast(), TCP_HEADER.into(), 0)
        };
        !fold(pseudo + (sum as u64 & 0xffff_ffff))
    };
    store(context, packet.transport.into(), &header, RECOMPUTE)?;
    turn(context, packet)
}

/// Whether the device is to complete the transport checksum (`CHECKSUM_PARTIAL`). Programs cannot
/// see this, but the helper leaves such a checksum alone when something other than the pseudo
/// header changes. The packet's checksum is zero afterwards.
#[inline(always)]
pub(crate) fn is_checksum_partial<F: Datapath>(
    context: &TcContext,
    packet: &Packet<F>,
) -> Result<bool, ()> {
    let offset = packet.checksum();
    let before: u16 = 0;
    store(context, offset, &before, RECOMPUTE)?;
    context.l4_csum_replace(offset, 0, 1, 0).map_err(|_| ())?;
    let after: u16 = context.load(offset).map_err(|_| ())?;
    // The helper expects its caller to change the frame by the same difference, and so has left a
    // complete checksum of the frame as it was: so must be the field.
    store(context, offset, &before, 0)?;
    Ok(after == before)
}

/// Puts the headers of an ICMP port unreachable before a packet, from its destination to its
/// source.
#[inline(never)]
fn unreachable<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> bool {
    try_unreachable(context, work).is_ok()
}

#[inline(always)]
fn try_unreachable<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Result<(), ()> {
    let packet = &work.packet;
    let network = packet.network();
    let behind = (packet.end as usize).checked_sub(network).ok_or(())?;
    // From 1 to QUOTE, in a way that the verifier of Linux 6.1 sees, too: a comparison with zero
    // tells it nothing. Nothing would become QUOTE, which the packet then does not have.
    let quoted = (hint::black_box(behind.min(QUOTE)).wrapping_sub(1) & (QUOTE - 1)) + 1;
    let quote = &mut work.quote;
    *quote = [0; QUOTE / size_of::<u64>()];
    // SAFETY: `quoted` is no longer than the buffer.
    let loaded = unsafe {
        bpf_skb_load_bytes(
            context.skb.skb.cast(),
            network as u32,
            quote.as_mut_ptr().cast(),
            quoted as u32,
        )
    };
    if loaded != 0 {
        return Err(());
    }
    // Behind the quote the buffer is zero.
    let mut sum = sum(quote, QUOTE);
    if packet.protocol == Protocol::UDP {
        sum += completion(context, packet, quote, sum)?;
    }
    change_tail(context, (network + quoted) as u32)?;
    let room = (F::HEADER + ICMP_HEADER) as i32;
    context.adjust_room(room, BPF_ADJ_ROOM_MAC, 0).map_err(|_| ())?;
    let (source, destination) = (&packet.tuple.destination, &packet.tuple.source);
    F::write_unreachable(context, network, source, destination, quoted as u16, sum)?;
    turn(context, packet)
}

/// What the device will add to the sum of a quoted datagram. If the datagram's checksum is
/// partial, whoever completes it does so in the quote: the field's place in the frame is known
/// beside the frame and cannot be forgotten.
#[inline(always)]
fn completion<F: Datapath>(
    context: &TcContext,
    packet: &Packet<F>,
    quote: &mut Quote,
    sum_of_all: u64,
) -> Result<u64, ()> {
    let field: u16 = context.load(packet.checksum()).map_err(|_| ())?;
    let is_partial = is_checksum_partial(context, packet)?;
    store(context, packet.checksum(), &field, RECOMPUTE)?;
    if !is_partial {
        return Ok(0);
    }
    // A whole number of words, and within the quote.
    let headers = (usize::from(packet.transport) - packet.network()) & (QUOTE - 4);
    let datagram = sum_of_all + u64::from(!carry(sum(quote, headers)));
    Ok(u64::from(!field) + u64::from(!fold(datagram)))
}

/// The sum over the first bytes of a quote, not folded.
#[inline(always)]
fn sum(quote: &mut Quote, length: usize) -> u64 {
    // SAFETY: `length` is no more than the buffer's.
    let sum = unsafe {
        bpf_csum_diff(core::ptr::null_mut(), 0, quote.as_mut_ptr().cast(), length as u32, 0)
    };
    sum as u64 & 0xffff_ffff
}

/// Turns a frame around, if it has an Ethernet header.
#[inline(always)]
pub(crate) fn turn<F: Datapath>(context: &TcContext, packet: &Packet<F>) -> Result<(), ()> {
    if packet.has_link_header() { swap_mac_addresses(context) } else { Ok(()) }
}

/// Cuts a frame to a length in bytes.
#[inline(always)]
pub(crate) fn change_tail(context: &TcContext, length: u32) -> Result<(), ()> {
    // SAFETY: the kernel gives programs a valid context.
    match unsafe { bpf_skb_change_tail(context.skb.skb, length, 0) } {
        0 => Ok(()),
        _ => Err(()),
    }
}
