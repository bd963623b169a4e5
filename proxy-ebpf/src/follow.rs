// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A packet for which a flow was found: whether that serves it, and how the packet follows it.

use aya_ebpf::programs::TcContext;
use proxy_common::{
    clock::PER_SECOND,
    counter::Reason,
    flow::{Flow, FlowKey, Hook, Kind, Seen},
    frontend::ServiceIndex,
};

use crate::{
    blame::blame,
    bridge, endless,
    family::Datapath,
    fast,
    flow::{Found, Side, find},
    folded::{self, Folded},
    fragment,
    frame::{mark_request, store},
    packet::Part,
    rewrite::failure,
    tcp, traffic,
    work::Work,
};

/// What a flow that was found is to the packet.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serving {
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
pub(crate) fn serves<F: Datapath>(work: &Work<F>, entry: *mut Flow<F>) -> Serving {
    let packet = &work.packet;
    let found = Found { entry };
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
    if flow.is_closed() {
        return Serving::NoMore;
    }
    // A datagram, a SYN or an INIT: are its replies still the flow's own? While it is half-open, another
    // flow may have taken the key.
    if !flow.is_confirmed() {
        let key = FlowKey::new(flow.to.reversed(), packet.protocol, flow.kind.reply_hook());
        if find(&key).is_some_and(|reply| !reply.answers(&packet.tuple)) {
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

/// How a packet of a flow goes on.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    /// On its way.
    Pass,
    /// Not at all; this has been counted.
    Drop,
    /// Past the host's stack, as [`Work::flow`] says.
    GoPast,
    /// Back out of its device.
    TurnAround,
    /// On its way, after its flow has been unfolded.
    Unfold,
}

/// Takes note of a packet in its flow, and rewrites it; where there are folded flows, as theirs.
#[inline(never)]
pub(crate) fn translate<F: Datapath, const FOLDS: bool>(
    context: &TcContext,
    work: &mut Work<F>,
    entry: *mut Flow<F>,
) -> Follow {
    let found = Found { entry };
    let flow = found.flow();
    let mut kind = flow.kind;
    let mut mac = flow.mac;
    let stale = work.now.since(flow.last_seen) >= PER_SECOND;
    work.flow.to = flow.to;
    work.flow.kind = kind;
    (work.flow.service, work.service) = (flow.service, flow.service);
    (work.flow.device, work.flow.mac) = (flow.device, mac);
    let is_asked = fast::is_on()
        && kind.has(Kind::FAST)
        && !kind.is_folded()
        && !kind.has(Kind::REPLY)
        && !fast::is_on_way(context, flow, false, work.now);
    if !found.is(&work.key) {
        return Follow::Pass;
    }
    let proven = is_proof(work, found);
    let lacks_place = stale && endless::lacks_place(flow, work.packet.protocol);
    let side = if kind.has(Kind::REPLY) { Side::Backend } else { Side::Client };
    found.observe(work, side);
    if proven {
        // The node may have learned the backend's MAC address since the flow was opened. Its
        // replies have been switched all the time.
        if kind.0 & !Kind::MASQUERADE == 0
            && bridge::neighbour(context, work.packet.protocol, &work.flow.to, &mut mac)
        {
            kind.0 = Kind::SAME_BRIDGE;
            if found.is(&work.key) {
                // SAFETY: map memory, see `Found`.
                unsafe {
                    (*entry).mac = mac;
                    (*entry).kind = kind;
                }
            }
        }
    }
    if proven || lacks_place {
        F::confirm(context, work);
    }
    if is_asked {
        fast::keep_way(context, work, entry);
    }
    if FOLDS && kind.is_folded() && folded::go_on(context, work, entry) == Folded::Lost {
        return Follow::Unfold;
    }
    if stale
        && kind.has(Kind::SAME_BRIDGE)
        && bridge::neighbour(context, work.packet.protocol, &work.flow.to, &mut mac)
        && found.is(&work.key)
    {
        // SAFETY: map memory, see `Found`.
        unsafe { (*entry).mac = mac };
    }
    send(context, work, kind, &mac)
}

/// Rewrites the first packet of a flow that has just been entered, and is in [`Work::flow`]. There is
/// nothing in it to take note of.
#[inline(never)]
pub(crate) fn begin<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Follow {
    let (kind, mac) = (work.flow.kind, work.flow.mac);
    if kind.is_folded() {
        folded::note_hop(work);
    }
    send(context, work, kind, &mac)
}

/// Rewrites a packet as [`Work::flow`] says, and sends it on its way.
#[inline(always)]
fn send<F: Datapath>(context: &TcContext, work: &mut Work<F>, kind: Kind, mac: &[u8; 6]) -> Follow {
    if kind.has(Kind::DIRECT) && work.flow.to == work.packet.tuple {
        return Follow::Pass;
    }
    if !F::rewrite(context, work) {
        blame(work, failure(&work.packet));
        return Follow::Drop;
    }
    traffic::translated::<F>(work.flow.service, kind, context.len());
    if work.packet.part == Part::FIRST {
        fragment::remember(work, work.key.hook);
    }
    if kind.has(Kind::HAIRPIN) {
        return Follow::TurnAround;
    }
    // Of an entry that was recycled meanwhile there is no way past the stack any more.
    let is_fast = fast::is_on() && work.flow.kind.has(Kind::FAST);
    if kind.is_folded() {
        if F::age(context, work.packet.network()).is_err() {
            blame(work, Reason::DropRewrite);
            return Follow::Drop;
        }
        mark_request(context);
        work.flow.kind = kind;
        return Follow::GoPast;
    }
    if is_fast && work.key.hook == Hook::INGRESS {
        return Follow::GoPast;
    }
    if kind.has(Kind::SAME_BRIDGE) {
        let _: Result<(), ()> = store(context, 0, mac, 0);
    }
    if kind.is_final() && work.key.hook == Hook::INGRESS {
        mark_request(context);
    }
    Follow::Pass
}

/// Whether a packet of the client's proves that the client is there: that it has seen the
/// backend's answer. For TCP the acknowledgement of the backend's SYN says so, for SCTP the tag
/// that the backend has asked for.
#[inline(always)]
fn is_proof<F: Datapath>(work: &Work<F>, found: Found<F>) -> bool {
    let (packet, flow) = (&work.packet, found.flow());
    if flow.is_confirmed() || flow.kind.has(Kind::REPLY) || !flow.backend_seen.has(Seen::ANY) {
        return false;
    }
    packet.is_datagram()
        || packet.is_segment(tcp::ACK) && packet.segment.acknowledgement == flow.proof
}
