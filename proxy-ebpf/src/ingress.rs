// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Requests: from a client to a frontend, on their way to a backend.

use aya_ebpf::programs::TcContext;
use proxy_common::{
    Protocol,
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
    fragment,
    frame::store,
    hairpin, icmp_error,
    open::{Opening, look_up, open},
    packet::{Parsed, Part},
    reject,
    rewrite::rewrite,
    tcp,
    verdict::Verdict,
    work::Work,
};

/// Handles a frame from a client, with its network header at `network`. A function of its own, as
/// each family has its own stack.
#[inline(never)]
pub(crate) fn run<F: Datapath>(context: &TcContext, network: usize) -> i32 {
    blame::decide(context, |context, work| decide::<F>(context, work, network))
}

#[inline(always)]
fn decide<F: Datapath>(context: &TcContext, work: &mut Work<F>, network: usize) -> Verdict {
    let addressee = bridge::addressee(context);
    if addressee == Addressee::Nobody {
        return Verdict::Pass;
    }
    // What is sent to a neighbour's MAC address is not for the node: only direct connections to
    // endpoints are of interest there.
    work.direct_only = u8::from(addressee == Addressee::Neighbour);
    let parsed = work.packet.parse(context, network);
    work.now = flow::now();
    match parsed {
        Parsed::Transport => {}
        Parsed::Error => return icmp_error::forward(context, work, Hook::INGRESS),
        Parsed::Other => return answer_other(context, work),
        Parsed::Nothing => return Verdict::Pass,
    }
    let part = work.packet.part;
    match part {
        Part::FIRST => fragment::forget(work, Hook::INGRESS),
        Part::LATER if !fragment::recall(work, Hook::INGRESS) => return overtaken(work),
        // As its first fragment did.
        Part::LATER if work.packet.protocol == Protocol::SCTP => return Verdict::Pass,
        _ => {}
    }
    work.key = FlowKey::new(work.packet.tuple, work.packet.protocol, Hook::INGRESS);
    if let Some(found) = flow::find(&work.key) {
        work.confirmed = u8::from(found.confirmed);
        match serves(work, found.entry) {
            Serving::Yes => return forward(context, work, found.entry),
            Serving::NotOurs => return Verdict::Pass,
            Serving::NoMore => flow::forget(&work.key, found.entry),
        }
    }
    if work.packet.part == Part::LATER {
        return overtaken(work);
    }
    match open(context, work) {
        Opening::Opened => {}
        Opening::Pass => return Verdict::Pass,
        // The second is counted where it is decided, and never comes here.
        Opening::Drop | Opening::NoLocalEndpoint => return Verdict::Drop,
        Opening::NoEndpoints => {
            return reject::refuse(context, work, Reason::RejectNoEndpoints, hairpin::OUT);
        }
        Opening::NoPort => {
            return reject::refuse(context, work, Reason::RejectNoPort, hairpin::OUT);
        }
        Opening::NoFlow => {
            return reject::refuse(context, work, Reason::RejectNoFlow, hairpin::OUT);
        }
    }
    let Some(found) = flow::find(&work.key) else {
        blame(work, Reason::DropFlowInsert);
        return Verdict::Drop;
    };
    work.confirmed = u8::from(found.confirmed);
    forward(context, work, found.entry)
}

/// What is neither TCP nor UDP. No Service port is for it, and a VIP is nobody who could answer it
/// otherwise: kube-proxy's nftables mode rejects it, too.
#[inline(never)]
fn answer_other<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Verdict {
    if work.direct_only == 0 && look_up(&work.packet) == Some(ServiceIndex::REFUSE) {
        return reject::refuse(context, work, Reason::RejectNoPort, hairpin::OUT);
    }
    if work.packet.part == Part::FIRST && work.packet.protocol == Protocol::SCTP {
        fragment::remember(work, Hook::INGRESS);
    }
    Verdict::Pass
}

/// A fragment whose first has not been here yet, or has opened no flow. Nothing but that says what
/// it belongs to, and to hold it back until then is not in our power.
#[inline(never)]
fn overtaken<F: Datapath>(work: &mut Work<F>) -> Verdict {
    let is_direct = |service| service == ServiceIndex::DIRECT;
    if work.direct_only != 0 || look_up(&work.packet).is_none_or(is_direct) {
        return Verdict::Pass;
    }
    blame(work, Reason::DropFragment);
    Verdict::Drop
}

/// What a flow that was found is to the packet.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Serving {
    /// It does.
    Yes,
    /// It has ended, and the packet is as if it had never been.
    NoMore,
    /// It has ended, and the packet was an answer in it; or the frame is for a neighbour, where
    /// only direct connections are of interest.
    NotOurs,
}

/// Whether a flow that was found serves the packet.
#[inline(never)]
fn serves<F: Datapath>(work: &Work<F>, entry: *mut Flow<F>) -> Serving {
    let packet = &work.packet;
    let found = Found { entry, confirmed: work.confirmed != 0 };
    let flow = found.flow();
    if work.direct_only != 0 && !flow.kind.has(Kind::DIRECT) {
        return Serving::NotOurs;
    }
    if flow.kind.has(Kind::REPLY) {
        return if found.is_expired(packet.protocol, work.now) {
            Serving::NotOurs
        } else {
            Serving::Yes
        };
    }
    if found.is_expired(packet.protocol, work.now) {
        return Serving::NoMore;
    }
    if !packet.opens_flow() {
        return Serving::Yes;
    }
    if packet.is_tcp() && flow.is_closed() {
        return Serving::NoMore;
    }
    // A datagram, or a SYN: are its replies still the flow's own? While it is half-open, its reply
    // entry may have been pushed out, and another flow have taken the key.
    if !found.confirmed {
        let key = FlowKey::new(flow.to.reversed(), packet.protocol, flow::reply_hook(flow.kind));
        let reply = F::tables().half_open.get_ptr_mut(&key);
        let answers = |entry| Found { entry, confirmed: false }.answers(&packet.tuple);
        if reply.is_some_and(|entry| !answers(entry)) {
            return Serving::NoMore;
        }
    }
    // And does the backend still serve?
    let serves = flow.service == ServiceIndex::DIRECT
        || F::tables()
            .backends
            .get(flow.backend.0)
            .is_some_and(|backend| backend.generation == flow.generation);
    if serves { Serving::Yes } else { Serving::NoMore }
}

/// Sends a packet of a flow on to its backend.
#[inline(always)]
fn forward<F: Datapath>(context: &TcContext, work: &mut Work<F>, entry: *mut Flow<F>) -> Verdict {
    match translate(context, work, entry) {
        Forward::Pass => Verdict::Pass,
        Forward::Drop => Verdict::Drop,
        Forward::TurnAround => hairpin::turn_around(context, &work.packet).unwrap_or_else(|()| {
            blame(work, Reason::DropRewrite);
            Verdict::Drop
        }),
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
    let mut kind = flow.kind;
    let mut mac = flow.mac;
    let stale = work.now.since(flow.last_seen) >= PER_SECOND;
    work.flow.to = flow.to;
    work.flow.kind = kind;
    if !found.is(&work.key) {
        return Forward::Pass;
    }
    let proven = is_proof(work, &found);
    let side = if kind.has(Kind::REPLY) { Side::Backend } else { Side::Client };
    found.observe(work, side);
    if proven {
        // The node may have learned the backend's MAC address since the flow was opened. Its
        // replies have been switched all the time.
        if kind.0 == 0 && bridge::neighbour(context, &work.flow.to, &mut mac) {
            kind.0 = Kind::SAME_BRIDGE;
            if found.is(&work.key) {
                // SAFETY: map memory, see `Found`.
                unsafe {
                    (*entry).mac = mac;
                    (*entry).kind = kind;
                }
            }
        }
        flow::confirm(work, entry);
    }
    if kind.has(Kind::DIRECT) && work.flow.to == work.packet.tuple {
        return Forward::Pass;
    }
    if !rewrite(context, &work.packet, &work.flow.to) {
        blame(work, Reason::DropRewrite);
        return Forward::Drop;
    }
    if work.packet.part == Part::FIRST {
        fragment::remember(work, Hook::INGRESS);
    }
    if kind.has(Kind::HAIRPIN) {
        return Forward::TurnAround;
    }
    if kind.has(Kind::SAME_BRIDGE) {
        if stale && bridge::neighbour(context, &work.flow.to, &mut mac) && found.is(&work.key) {
            // SAFETY: map memory, see `Found`.
            unsafe { (*entry).mac = mac };
        }
        let _: Result<(), ()> = store(context, 0, &mac, 0);
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
