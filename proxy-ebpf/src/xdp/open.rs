// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The first packets of flows of clients outside, to Services whose new flows ask for nothing but a backend. What
//! needs more, and what is in the way, goes up: see [`open`](crate::open), which says what is right. A flow to a backend
//! on this node is opened here as well, for the stack to go on with: were it chosen anew there, those elsewhere
//! would get more than their share.

use aya_ebpf::{helpers::bpf_get_prandom_u32, programs::XdpContext};
use proxy_common::{
    Protocol,
    counter::Reason,
    flow::{FlowKey, Kind, Queue},
    frontend::{FrontendKind, ServiceIndex},
    service::Policy,
};

use super::{send::GOES_ON, up};
use crate::{
    choice::{self, share},
    claim::Entered,
    counter::count,
    family::Datapath,
    flow::now,
    folded, foreign_nat,
    frame::is_to,
    masquerade, outset,
    packet::Part,
    queue, tcp, telling, traffic, wire,
    work::Work,
};

/// What [`open`] says instead of an action if it has opened a flow, and [`opened`] comes next.
pub(super) const OPENED: u32 = 19;

/// Why a packet of no flow may not open one here, if so.
#[inline(always)]
pub(super) fn may_open<F: Datapath>(key: &FlowKey<F>, flags: u8) -> Option<Reason> {
    if !choice::may_be_frontend::<F>(&key.tuple.destination) {
        return Some(Reason::XdpUpOther);
    }
    let opens = key.protocol != Protocol::TCP || flags == tcp::SYN;
    (!opens).then_some(Reason::XdpUpFlow)
}

/// Opens a flow for a packet that has none. [`Work::key`] is its key.
#[inline(never)]
pub(super) fn open<F: Datapath>(context: &XdpContext, network: usize) -> u32 {
    let Some(work) = Work::<F>::get() else {
        return up::<F>(Reason::XdpUpNew);
    };
    // By the device's own MAC address: a frame for somebody else is none of ours.
    let by = wire::device(work.came_by).filter(|(_, by)| is_to(context, &by.mac));
    let Some((by, _)) = by else {
        return up::<F>(Reason::XdpUpOther);
    };
    // Another version's programs in the stack may know it.
    if foreign_nat::may_have_translated::<F>() {
        return up::<F>(Reason::XdpUpNew);
    }
    work.now = now();
    if F::time_to_live(context, network) <= 1 || !choose(work, by) {
        return up::<F>(Reason::XdpUpNew);
    }
    work.packet.tuple = work.key.tuple;
    work.packet.protocol = work.key.protocol;
    work.packet.part = Part::WHOLE;
    let kind = folded::make(context, work, network, Kind::OUTSIDE | Kind::MASQUERADE);
    work.flow.kind = Kind(kind);
    work.place = queue::wait(Queue::HalfOpen, &work.key);
    match F::enter_in_driver(work) {
        Entered::AsIs | Entered::WithAnotherPort => {}
        Entered::NoRoom | Entered::NoPort => {
            // There it is told of.
            queue::leave::<F>(work.place);
            return up::<F>(Reason::XdpUpNew);
        }
    }
    if work.entered == 0 {
        return up::<F>(Reason::XdpUpNew);
    }
    OPENED
}

/// Counts the flow that [`open`] has opened, and tells of it.
#[inline(never)]
pub(super) fn opened<F: Datapath>() -> u32 {
    let Some(work) = Work::<F>::get() else {
        return up::<F>(Reason::XdpUpNew);
    };
    count::<F>(Reason::FlowCreated);
    traffic::created::<F>(work.flow.service);
    if let Some((by, _)) = wire::device(work.came_by) {
        telling::created::<F>(by);
    }
    if work.flow.kind.is_folded() { GOES_ON } else { up::<F>(Reason::XdpUpNew) }
}

/// Chooses a backend for [`Work::flow`], for a client behind a device of the stack.
#[inline(never)]
fn choose<F: Datapath>(work: &mut Work<F>, by: u32) -> bool {
    let (tuple, protocol) = (&work.key.tuple, work.key.protocol);
    if !outset::names_two_hosts(tuple) {
        return false;
    }
    let look_up = || choice::look_up::<F>(tuple.destination, tuple.destination_port, protocol);
    let Some(frontend) = look_up() else {
        return false;
    };
    let (service, kind) = (frontend.service(), frontend.kind());
    if service.0 < ServiceIndex::FIRST.0 {
        return false;
    }
    let Some(row) = choice::service::<F>(service) else {
        return false;
    };
    let policy = choice::policy(row);
    let asks_who = kind == FrontendKind::LoadBalancer && policy.has(Policy::SOURCE_RANGES);
    if asks_who || policy.affinity_seconds() != 0 {
        return false;
    }
    // As in `open`: a pod of another node may be told by its address.
    let is_local = kind == FrontendKind::ClusterIp && choice::is_local::<F>(by, &tuple.source);
    if !masquerade::is_wanted::<F>(kind, policy, is_local) {
        return false;
    }
    let (set, _) = choice::backend_set(row, policy, kind, is_local);
    let set = set.within_family();
    if set.when_empty().is_some() {
        return false;
    }
    // SAFETY: the helper takes nothing.
    let random = unsafe { bpf_get_prandom_u32() };
    let Some((id, backend)) = choice::backend::<F>(set, share(random, set.count())) else {
        return false;
    };
    let flow = &mut work.flow;
    (flow.service, flow.backend, flow.generation) = (service, id, backend.generation);
    flow.to = *tuple;
    (flow.to.destination, flow.to.destination_port) = (backend.address, backend.port);
    look_up() == Some(frontend)
}
