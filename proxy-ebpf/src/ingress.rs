// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Requests: from a client to a frontend, on their way to a backend.

use aya_ebpf::programs::TcContext;
use proxy_common::{
    clock::PER_SECOND,
    counter::Reason,
    flow::{Flow, FlowKey, Hook, Kind, Seen},
    frontend::ServiceIndex,
};

use crate::{
    blame::{self, blame},
    bridge::{self, Addressee},
    family::Datapath,
    flow::{self, Found, Side},
    hairpin,
    open::{Opening, open},
    packet::{self, tcp},
    reject,
    rewrite::rewrite,
    verdict::Verdict,
    work::Work,
};

/// Handles a frame from a client. A function of its own, as each family has its own stack.
#[inline(never)]
pub(crate) fn run<F: Datapath>(context: &TcContext) -> i32 {
    let Some(work) = Work::<F>::get() else {
        return Verdict::Pass.to_action();
    };
    blame::begin(work);
    let verdict = decide(context, work);
    blame::tell(context, work);
    verdict.to_action()
}

#[inline(always)]
fn decide<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Verdict {
    let addressee = bridge::addressee(context);
    if addressee == Addressee::Group {
        return Verdict::Pass;
    }
    // What is sent to a neighbour's MAC address is not for the node: only direct connections to
    // endpoints are of interest there.
    work.direct_only = u8::from(addressee == Addressee::Neighbour);
    if !work.packet.parse(context) {
        return Verdict::Pass;
    }
    work.now = flow::now();
    work.key = FlowKey::new(work.packet.tuple, work.packet.protocol, Hook::INGRESS);
    if let Some(found) = flow::find(&work.key) {
        work.confirmed = u8::from(found.confirmed);
        match serves(work, found.entry) {
            Service::Yes => return forward(context, work, found.entry),
            Service::NotOurs => return Verdict::Pass,
            Service::NoMore => flow::forget(&work.key, found.entry),
        }
    }
    match open(context, work) {
        Opening::Opened => {}
        Opening::Pass => return Verdict::Pass,
        Opening::Drop => return Verdict::Drop,
        Opening::NoEndpoints => return reject::refuse(context, work, Reason::RejectNoEndpoints),
        Opening::NoPort => return reject::refuse(context, work, Reason::RejectNoPort),
        Opening::NoFlow => return reject::refuse(context, work, Reason::RejectNoFlow),
    }
    let Some(found) = flow::find(&work.key) else {
        blame(work, Reason::DropFlowInsert);
        return Verdict::Drop;
    };
    work.confirmed = u8::from(found.confirmed);
    forward(context, work, found.entry)
}

/// Whether a flow that was found serves the packet.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    /// It does.
    Yes,
    /// It has ended, and the packet is as if it had never been.
    NoMore,
    /// It has ended, and the packet was an answer in it.
    NotOurs,
}

/// Whether a flow that was found serves the packet.
#[inline(never)]
fn serves<F: Datapath>(work: &Work<F>, entry: *mut Flow<F>) -> Service {
    let packet = &work.packet;
    let found = Found { entry, confirmed: work.confirmed != 0 };
    let flow = found.flow();
    if flow.kind.has(Kind::REPLY) {
        return if found.is_expired(packet.protocol, work.now) {
            Service::NotOurs
        } else {
            Service::Yes
        };
    }
    if found.is_expired(packet.protocol, work.now) {
        return Service::NoMore;
    }
    if !packet.opens_flow() {
        return Service::Yes;
    }
    if packet.is_tcp() && flow.is_closed() {
        return Service::NoMore;
    }
    // A datagram, or a SYN: does the backend still serve?
    let serves = flow.service == ServiceIndex::DIRECT
        || F::tables()
            .backends
            .get(flow.backend.0)
            .is_some_and(|backend| backend.generation == flow.generation);
    if serves { Service::Yes } else { Service::NoMore }
}

/// Sends a packet of a flow on to its backend.
#[inline(always)]
fn forward<F: Datapath>(context: &TcContext, work: &mut Work<F>, entry: *mut Flow<F>) -> Verdict {
    match translate(context, work, entry) {
        Forward::Pass => Verdict::Pass,
        Forward::Drop => Verdict::Drop,
        Forward::TurnAround => hairpin::turn_around(context).unwrap_or(Verdict::Drop),
    }
}

/// How a packet of a flow goes on.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forward {
    /// On its way.
    Pass,
    /// Not at all; this has been counted.
    Drop,
    /// Back out of its device.
    TurnAround,
}

#[inline(never)]
fn translate<F: Datapath>(context: &TcContext, work: &mut Work<F>, entry: *mut Flow<F>) -> Forward {
    let found = Found { entry, confirmed: work.confirmed != 0 };
    let flow = found.flow();
    let kind = flow.kind;
    let mac = flow.mac;
    let stale = work.now.since(flow.last_seen) >= PER_SECOND;
    work.flow.to = flow.to;
    if !found.is(&work.key) || work.direct_only != 0 && !kind.has(Kind::DIRECT) {
        return Forward::Pass;
    }
    let proven = is_proof(work, &found);
    let side = if kind.has(Kind::REPLY) { Side::Backend } else { Side::Client };
    found.observe(work, side);
    if proven {
        flow::confirm(work, entry);
    }
    if kind.has(Kind::DIRECT) && work.flow.to == work.packet.tuple {
        return Forward::Pass;
    }
    if !rewrite(context, &work.packet, &work.flow.to) {
        blame(work, Reason::DropRewrite);
        return Forward::Drop;
    }
    if kind.has(Kind::HAIRPIN) {
        return Forward::TurnAround;
    }
    if kind.has(Kind::SAME_BRIDGE) {
        let mut mac = mac;
        if stale {
            let _: bool = bridge::neighbour(context, &work.flow.to, &mut mac);
        }
        let _: Result<(), ()> = packet::store(context, 0, &mac, 0);
    }
    Forward::Pass
}

/// Whether a packet of the client's proves that the client is there: that it has seen the
/// backend's answer. For TCP the acknowledgement of the backend's SYN says so.
#[inline(always)]
fn is_proof<F: Datapath>(work: &Work<F>, found: &Found<F>) -> bool {
    let (packet, flow) = (&work.packet, found.flow());
    if found.confirmed || flow.kind.has(Kind::REPLY) || !flow.backend_seen.has(Seen::ANY) {
        return false;
    }
    !packet.is_tcp() || packet.is_segment(tcp::ACK) && packet.segment.acknowledgement == flow.proof
}
