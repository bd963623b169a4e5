// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! ICMP errors about packets of flows, on their way to who has sent the packet (RFC 5508 section
//! 4): fragmentation needed and packet too big, time exceeded, unreachable, parameter problem.
//!
//! An error goes against the direction of the packet that it is about. So it belongs to the entry
//! that translates answers to that packet, and takes on what that entry says: where the packet was
//! sent to, or where it came from, was translated before it was quoted, and is translated back.
//! The error's own source changes only if it is the flow's other end: routers keep their
//! addresses, so that a client can trace its way to a backend.

use aya_ebpf::{bindings::BPF_F_PSEUDO_HDR, programs::TcContext};
use proxy_common::{
    Protocol,
    counter::Reason,
    flow::{FlowKey, Hook, Kind, Tuple},
};

use crate::{
    blame::blame,
    counter::count,
    family::Datapath,
    flow,
    frame::store,
    hairpin,
    packet::Packet,
    rewrite::{addresses_difference, carry, fold, ports_difference},
    verdict::Verdict,
    work::Work,
};

/// The length of an ICMP error's header, in bytes, and where its checksum is.
const HEADER: usize = 8;
const CHECKSUM: usize = 2;
/// The length of what a quote must have of its transport header, in bytes.
const PORTS: u32 = 4;

/// Handles an ICMP error, if it is about a packet of a flow that is translated here. It does not keep
/// the flow alive: anybody can send one.
#[inline(always)]
pub(crate) fn forward<F: Datapath>(
    context: &TcContext,
    work: &mut Work<F>,
    hook: Hook,
) -> Option<Verdict> {
    work.now = flow::now();
    belongs(context, work, hook).then(|| follow(context, work))
}

#[inline(never)]
fn follow<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Verdict {
    if translate(context, work).is_err() {
        blame(work, Reason::DropRewrite);
        return Verdict::Drop;
    }
    count::<F>(Reason::IcmpErrorTranslated);
    let kind = work.flow.kind;
    if kind.has(Kind::HAIRPIN) {
        return hairpin::turn_around(context, &work.packet).unwrap_or_else(|()| {
            blame(work, Reason::DropRewrite);
            Verdict::Drop
        });
    }
    // As the packets that go this way.
    if kind.has(Kind::SAME_BRIDGE) && !kind.has(Kind::REPLY) {
        let _: Result<(), ()> = store(context, 0, &work.flow.mac, 0);
    }
    Verdict::Pass
}

/// Whether an error is about a packet of a flow that is to be translated. Leaves the flow's entry
/// in [`Work::flow`].
#[inline(never)]
fn belongs<F: Datapath>(context: &TcContext, work: &mut Work<F>, hook: Hook) -> bool {
    let network = usize::from(work.packet.transport) + HEADER;
    // An error goes to the source of what it quotes, and padding is no part of the quote.
    if !work.quoted.parse_quoted(context, network)
        || u32::from(work.quoted.transport) + PORTS > work.packet.end
        || work.packet.tuple.destination != work.quoted.tuple.source
    {
        return false;
    }
    let protocol = work.quoted.protocol;
    work.key = FlowKey::new(work.quoted.tuple.reversed(), protocol, hook);
    let Some(found) = flow::find(&work.key) else {
        return false;
    };
    // SAFETY: map memory, see `Found`.
    work.flow = unsafe { *found.entry };
    !found.is_expired(protocol, work.now)
        && found.is(&work.key)
        && (work.direct_only == 0 || work.flow.kind.has(Kind::DIRECT))
        && work.flow.to != work.key.tuple
}

/// Translates an error, outside and inside.
#[inline(never)]
fn translate<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Result<(), ()> {
    let (outer, quoted) = (&work.packet, &work.quoted);
    let from = &quoted.tuple;
    let to = work.flow.to.reversed();
    let checksum = usize::from(outer.transport) + CHECKSUM;

    let difference = translate_quote(context, quoted, &to, outer.end)?;
    context.l4_csum_replace(checksum, 0, difference.into(), 0).map_err(|_| ())?;

    let is_from_other_end = outer.tuple.source == from.destination;
    let outside = Tuple {
        source: if is_from_other_end { to.destination } else { outer.tuple.source },
        destination: to.source,
        ..outer.tuple
    };
    let difference = carry(addresses_difference(&outer.tuple, &outside));
    F::adjust_header_checksum(context, outer.network(), difference)?;
    if F::ICMP_PSEUDO_HEADER {
        let pseudo = u64::from(BPF_F_PSEUDO_HDR);
        context.l4_csum_replace(checksum, 0, difference.into(), pseudo).map_err(|_| ())?;
    }
    let addresses = [outside.source, outside.destination];
    store(context, outer.addresses(), &addresses, F::STORE_ADDRESSES)
}

/// Translates a quoted packet with its checksums, and says what that adds to the sum over it. A
/// complete checksum of the frame does not change: the error's own checksum makes up for it.
#[inline(always)]
fn translate_quote<F: Datapath>(
    context: &TcContext,
    quoted: &Packet<F>,
    to: &Tuple<F>,
    end: u32,
) -> Result<u32, ()> {
    let addresses = addresses_difference(&quoted.tuple, to);
    let ports = ports_difference(&quoted.tuple, to);
    let mut sum = addresses + ports;
    store(context, quoted.addresses(), &[to.source, to.destination], 0)?;
    store(
        context,
        quoted.transport.into(),
        &[to.source_port.to_wire(), to.destination_port.to_wire()],
        0,
    )?;
    if let Some(at) = F::HEADER_CHECKSUM {
        sum += update_checksum(context, quoted.network() + at, addresses, false)?;
    }
    // The quote may end before it. What was quoted before its checksum was completed stays wrong.
    // So does SCTP's, which depends on what the quote lacks: nobody looks at it in a quote.
    let is_quoted = !quoted.is_sctp() && quoted.checksum() as u32 + 2 <= end;
    if is_quoted && let Ok(field) = context.load::<u16>(quoted.checksum()) {
        let is_udp = quoted.protocol == Protocol::UDP;
        if !is_udp || field != 0 {
            sum += update_checksum(context, quoted.checksum(), addresses + ports, is_udp)?;
        }
    }
    Ok(carry(sum))
}

/// Brings a checksum in line with a difference of what it covers (RFC 1624), and says what that
/// adds to the sum over the field itself.
#[inline(always)]
fn update_checksum(
    context: &TcContext,
    at: usize,
    difference: u64,
    zero_means_none: bool,
) -> Result<u64, ()> {
    let old: u16 = context.load(at).map_err(|_| ())?;
    let mut new = !fold(u64::from(!old) + difference);
    if zero_means_none && new == 0 {
        new = u16::MAX;
    }
    store(context, at, &new, 0)?;
    Ok(u64::from(!old) + u64::from(new))
}
