// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The floors: the same tables and the same rewriting as the programs', and nothing else. They know
//! no time, no expiry, no fragments, no other protocols, no counters, and believe whatever they find.

use aya_ebpf::{
    bindings::{BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, BPF_NOEXIST, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::{bpf_get_prandom_u32, generated::bpf_csum_update},
    programs::TcContext,
};
use proxy_common::{
    Address as _, Port, Protocol,
    clock::Tick,
    flow::{Flow, FlowKey, Hook, Kind, PLACES, Seen, Tuple, Waiting},
    frontend::FrontendKey,
};

use crate::{
    frame::{Layout, parse, read},
    tables::{DEVICES, Tabled},
};

/// Where the checksum is in a TCP header.
const CHECKSUM: usize = 16;

/// A packet of a flow: one look-up, one rewrite.
#[inline(always)]
pub(crate) fn follow<F: Tabled>(context: &TcContext) -> Option<i32> {
    let tuple = parse::<F>(context)?;
    let entry = F::tables().flows.get_ptr(&key(tuple))?;
    // SAFETY: map memory, which nobody changes here.
    let to = unsafe { (*entry).to };
    rewrite(context, &tuple, &to)
}

/// The same with each word of the header changed by a helper of its own.
#[inline(always)]
pub(crate) fn follow_plainly<F: Tabled>(context: &TcContext) -> Option<i32> {
    let tuple = parse::<F>(context)?;
    let entry = F::tables().flows.get_ptr(&key(tuple))?;
    // SAFETY: map memory, which nobody changes here.
    let to = unsafe { (*entry).to };
    let difference = addresses(&tuple, &to);
    if let Some(checksum) = F::HEADER_CHECKSUM {
        context.l3_csum_replace(checksum, 0, difference.into(), 0).ok()?;
    }
    let checksum = F::TRANSPORT + CHECKSUM;
    context.l4_csum_replace(checksum, 0, difference.into(), BPF_F_PSEUDO_HDR.into()).ok()?;
    let recompute = if F::HEADER_CHECKSUM.is_some() { 0 } else { BPF_F_RECOMPUTE_CSUM };
    context.store(F::ADDRESSES, &[to.source, to.destination], recompute.into()).ok()?;
    context.l4_csum_replace(checksum, 0, ports(&tuple, &to).into(), 0).ok()?;
    let wire = [to.source_port.to_wire(), to.destination_port.to_wire()];
    context.store(F::TRANSPORT, &wire, 0).ok()?;
    Some(TC_ACT_UNSPEC)
}

/// The first packet of a flow, with all look-ups that safe tables need: it is of no flow; the
/// device; the frontend, its Service, a slot and a backend, and the frontend again, as the others are
/// only believed if it is the same still; an entry for each direction, where there is none; one rewrite.
#[inline(always)]
pub(crate) fn open<F: Tabled>(context: &TcContext) -> Option<i32> {
    establish::<F, true>(context)
}

/// The same, where nobody else writes to the tables, and all devices are alike.
#[inline(always)]
pub(crate) fn open_alone<F: Tabled>(context: &TcContext) -> Option<i32> {
    establish::<F, false>(context)
}

#[inline(always)]
fn establish<F: Tabled, const SAFE: bool>(context: &TcContext) -> Option<i32> {
    let tuple = parse::<F>(context)?;
    // SAFETY: the context is the kernel's.
    let device = SAFE.then(|| unsafe { (*context.skb.skb).ifindex });
    let to = enter::<F>(&tuple, device)?;
    rewrite(context, &tuple, &to)
}

/// Enters a flow for a packet, and says where it leads to: safely, if a device is named.
#[inline(always)]
pub(crate) fn enter<F: Tabled>(tuple: &Tuple<F>, device: Option<u32>) -> Option<Tuple<F>> {
    let tables = F::tables();
    let tuple = *tuple;
    let own = key(tuple);
    if tables.flows.get_ptr(&own).is_some() {
        return None;
    }
    let wanted = FrontendKey::new(tuple.destination, tuple.destination_port, Protocol::TCP);
    let frontend = tables.frontends.get_ptr(&wanted)?;
    // SAFETY: map memory, which nobody changes here.
    let service = unsafe { (*frontend).service() };
    // SAFETY: as above.
    let set = unsafe { (*tables.services.get_ptr(service.0)?).cluster };
    // SAFETY: the helper takes nothing.
    let random = u64::from(unsafe { bpf_get_prandom_u32() });
    let place = ((random * u64::from(set.count())) >> 32) as u32;
    let id = tables.slots.get(set.start() + place)?;
    let backend = tables.backends.get(id.0)?;
    let to = Tuple { destination: backend.address, destination_port: backend.port, ..tuple };
    let replies = FlowKey::new(to.reversed(), Protocol::TCP, Hook::EGRESS);
    if let Some(device) = device {
        let _ = DEVICES.get_ptr(device)?;
        let again = tables.frontends.get_ptr(&wanted)?;
        // SAFETY: as above.
        let is_same = unsafe { (*again).service() } == service;
        if !is_same {
            return None;
        }
    }
    let mut flow = Flow {
        tag: 0,
        to: tuple.reversed(),
        service,
        backend: *id,
        generation: backend.generation,
        last_seen: Tick::default(),
        proof: 0,
        device: 0,
        client_device: 0,
        mac: [0; 6],
        client_mac: [0; 6],
        kind: Kind(Kind::REPLY),
        client_seen: Seen::default(),
        backend_seen: Seen::default(),
        way_asked: 0,
        seal: 0,
    };
    let place = random as u32 & (PLACES - 1);
    let waiting = tables.waiting.get_ptr_mut(place)?;
    // SAFETY: map memory, which nobody else changes here.
    unsafe { *waiting = Waiting { key: own, is_taken: 1 } };
    flow.proof = place;
    tables.flows.insert(&replies, &flow, BPF_NOEXIST.into()).ok()?;
    flow.to = to;
    flow.kind = Kind(0);
    tables.flows.insert(&own, &flow, BPF_NOEXIST.into()).ok()?;
    Some(to)
}

/// A packet of no flow: one look-up.
#[inline(always)]
pub(crate) fn miss<F: Tabled>(context: &TcContext) -> Option<i32> {
    let tuple = parse::<F>(context)?;
    F::tables().flows.get_ptr(&key(tuple)).is_none().then_some(TC_ACT_UNSPEC)
}

/// A packet for a Service without endpoints: it is of no flow; the frontend and its Service;
/// its headers are written anew, as those of an answer are.
#[inline(always)]
pub(crate) fn refuse<F: Tabled>(context: &TcContext) -> Option<i32> {
    let tables = F::tables();
    let tuple = parse::<F>(context)?;
    let own = key(tuple);
    if tables.flows.get_ptr(&own).is_some() {
        return None;
    }
    let wanted = FrontendKey::new(tuple.destination, tuple.destination_port, Protocol::TCP);
    let frontend = tables.frontends.get_ptr(&wanted)?;
    // SAFETY: map memory, which nobody changes here.
    let set = unsafe { (*tables.services.get_ptr((*frontend).service().0)?).cluster };
    let _ = set.when_empty()?;
    let _: i32 = rewrite(context, &tuple, &tuple.reversed())?;
    let rest: [u64; 2] = read(context, F::TRANSPORT + 4)?;
    context.store(F::TRANSPORT + 4, &[rest[1], rest[0]], 0).ok()?;
    Some(TC_ACT_SHOT)
}

#[inline(always)]
pub(crate) fn key<F: Layout>(tuple: Tuple<F>) -> FlowKey<F> {
    FlowKey::new(tuple, Protocol::TCP, Hook::INGRESS)
}

/// Gives a packet other addresses and ports with as few calls of helpers as that takes: the checksum
/// may be partial, and only helpers know.
#[inline(always)]
fn rewrite<F: Layout>(context: &TcContext, from: &Tuple<F>, to: &Tuple<F>) -> Option<i32> {
    let addresses = addresses(from, to);
    let checksum = F::TRANSPORT + CHECKSUM;
    context.l4_csum_replace(checksum, 0, addresses.into(), BPF_F_PSEUDO_HDR.into()).ok()?;
    context.l4_csum_replace(checksum, 0, ports(from, to).into(), 0).ok()?;
    // A tuple lies in memory as addresses and ports lie in a packet without options.
    if let Some(at) = F::HEADER_CHECKSUM {
        let [before, old]: [u16; 2] = read(context, at - 2)?;
        let checksum = !fold(u64::from(!old) + u64::from(addresses));
        context.store(at - 2, &End { before: [before, checksum], to: *to }, 0).ok()?;
    } else {
        context.store(F::ADDRESSES, to, 0).ok()?;
        // SAFETY: the context is the kernel's.
        let _: i64 = unsafe { bpf_csum_update(context.skb.skb.cast(), addresses) };
    }
    Some(TC_ACT_UNSPEC)
}

/// The end of an IPv4 header with its checksum, and the ports.
#[repr(C)]
struct End<F: Layout> {
    before: [u16; 2],
    to: Tuple<F>,
}

/// What a change of the addresses adds to a one's complement sum.
#[inline(always)]
pub(crate) fn addresses<F: Layout>(from: &Tuple<F>, to: &Tuple<F>) -> u32 {
    let mut sum = 0;
    for (old, new) in [(&from.source, &to.source), (&from.destination, &to.destination)] {
        for (old, new) in old.words().iter().zip(new.words()) {
            sum += u64::from(!*old) + u64::from(*new);
        }
    }
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    ((sum >> 32) + sum) as u32
}

/// What a change of the ports adds to a one's complement sum.
#[inline(always)]
pub(crate) fn ports<F: Layout>(from: &Tuple<F>, to: &Tuple<F>) -> u32 {
    let new = |port: Port| u32::from(port.to_wire());
    let old = |port: Port| u32::from(!port.to_wire());
    old(from.source_port)
        + new(to.source_port)
        + old(from.destination_port)
        + new(to.destination_port)
}

/// A one's complement sum in 16 bits.
#[inline(always)]
pub(crate) fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + sum) as u16
}
