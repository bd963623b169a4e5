// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The short way of the two packets by which a TCP connection is confirmed: the backend's SYN-ACK, and the
//! client's acknowledgement of it. What is in the way goes the long way, as if it had not been here: see
//! [`Found::observe`](crate::flow::Found::observe) and [`confirm`](crate::confirm), which say what is right.

use aya_ebpf::programs::TcContext;
use proxy_common::flow::{Flow, FlowKey, Kind, Seen};

use crate::{
    bridge::{self, Addressee},
    confirm::confirm_both,
    family::Datapath,
    flow::{Found, Side, find},
    frame::{ETHERNET, device, read},
    known::{self, Way},
    maps::DEVICES,
    tcp::{self, TcpHeader},
    work::Work,
};

/// Whether a packet of a half-open flow may be one of these, by those of its flags that begin or end a
/// connection.
#[inline(always)]
pub(crate) fn is_part<F: Datapath>(flow: &Flow<F>, flags: u8) -> bool {
    if flow.is_confirmed() {
        return false;
    }
    flags == if flow.kind.has(Kind::REPLY) { tcp::SYN | tcp::ACK } else { 0 }
}

/// Takes note of such a packet, whose key is [`Work::key`], and translates it.
#[inline(never)]
pub(crate) fn go_on<F: Datapath, const EGRESS: bool>(context: &TcContext, network: usize) -> Way {
    let header: Option<TcpHeader> = read(context, network + F::HEADER);
    let (Some(work), Some(header)) = (Work::<F>::get(), header) else {
        return Way::Long;
    };
    let Some(found) = find(&work.key) else {
        return Way::Long;
    };
    let flow = found.flow();
    (work.flow.to, work.flow.kind, work.flow.service) = (flow.to, flow.kind, flow.service);
    let kind = flow.kind;
    let is_reply = kind.has(Kind::REPLY);
    let hook = if is_reply { kind.forward_hook() } else { kind.reply_hook() };
    work.reply_key = FlowKey::new(flow.to.reversed(), work.key.protocol, hook);
    if !known::is_plain(flow) || header.flags & tcp::ACK == 0 {
        return Way::Long;
    }
    let proves =
        flow.backend_seen.has(Seen::ANY) && u32::from_be(header.acknowledgement) == flow.proof;
    let may_go_on = if is_reply {
        EGRESS || is_for_the_node(context, network)
    } else {
        proves && is_for_the_node(context, network) && stays_routed(context, kind)
    };
    if !may_go_on {
        return Way::Long;
    }
    let past = match known::way_past::<F, EGRESS>(context, flow, false) {
        Ok(past) => past,
        Err(way) => return way,
    };
    let Some(other) = find(&work.reply_key) else {
        return Way::Long;
    };
    if !other.answers(&work.key.tuple) || !found.is(&work.key) {
        return Way::Long;
    }
    if is_reply {
        // A SYN counts in the sequence.
        let proof = u32::from_be(header.sequence).wrapping_add(1);
        take_answer(other, found, proof);
    } else {
        // Of TCP: it needs no place any more.
        let _: bool = confirm_both(found, other);
    }
    known::deliver(context, network, &work.key, (&work.flow.to, kind, work.flow.service), past)
}

/// Notes that the backend has answered, and what proves that the client has seen this.
#[inline(always)]
pub(crate) fn take_answer<F: Datapath>(forward: Found<F>, reply: Found<F>, proof: u32) {
    let _: [Seen; 2] = reply.see(Side::Backend, Seen::ANY);
    // SAFETY: map memory, see `Found`.
    unsafe { (*forward.entry).proof = proof };
    let _: [Seen; 2] = forward.see(Side::Backend, Seen::ANY);
}

/// Whether a packet is for the node, and not for a neighbour on a bridge.
#[inline(always)]
fn is_for_the_node(context: &TcContext, network: usize) -> bool {
    network < ETHERNET || bridge::addressee(context) == Addressee::Node
}

/// Whether a flow's packets are routed, and not switched: where there is a bridge, the node may have learned
/// since the flow was opened whether the backend is on it, too.
#[inline(always)]
fn stays_routed(context: &TcContext, kind: Kind) -> bool {
    // SAFETY: a device's entry is replaced, not changed, and rarely.
    let is_bridged = || unsafe { DEVICES.get(device(context)) }.is_some_and(|at| at.bridge != 0);
    kind.has(Kind::FAST) || !is_bridged()
}
