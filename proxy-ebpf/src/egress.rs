// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Replies: from a backend, on their way to the client that asked the frontend.

use aya_ebpf::programs::TcContext;
use proxy_common::flow::{FlowKey, Hook};

use crate::{
    blame::{self, blame},
    family::Datapath,
    flow::{self, Found, Side},
    fragment,
    frame::take_request_mark,
    handshake, icmp_error,
    known::{self, Way},
    packet::{Parsed, Part},
    rewrite::failure,
    traffic,
    verdict::Verdict,
    work::Work,
};

/// Handles a frame to a client, with its network header at `network`.
#[inline(always)]
pub(crate) fn run<F: Datapath>(context: &TcContext, network: usize) -> i32 {
    if take_request_mark(context) {
        return Verdict::Pass.to_action();
    }
    let mut way = known::follow::<F, true, false>(context, network);
    if way == Way::Handshake {
        way = handshake::go_on::<F, true>(context, network);
    }
    match way.verdict() {
        Some(verdict) => verdict.to_action(),
        None => go_through::<F>(context, network),
    }
}

/// A function of its own, as each family has its own stack.
#[inline(never)]
fn go_through<F: Datapath>(context: &TcContext, network: usize) -> i32 {
    blame::decide(context, |context, work| decide::<F>(context, work, network))
}

#[inline(always)]
fn decide<F: Datapath>(context: &TcContext, work: &mut Work<F>, network: usize) -> Verdict {
    work.direct_only = 0;
    work.outside = 0;
    match work.packet.parse(context, network) {
        Parsed::Transport => {}
        Parsed::Error => {
            return icmp_error::forward(context, work, Hook::EGRESS).unwrap_or(Verdict::Pass);
        }
        Parsed::Nothing | Parsed::Unserved | Parsed::Other => return Verdict::Pass,
    }
    work.now = flow::now();
    let part = work.packet.part;
    match part {
        Part::FIRST => fragment::forget(work, Hook::EGRESS),
        // The backend's first fragment has not been here, or was not a flow's.
        Part::LATER if !fragment::recall(work, Hook::EGRESS) => return Verdict::Pass,
        _ => {}
    }
    work.key = FlowKey::new(work.packet.tuple, work.packet.protocol, Hook::EGRESS);
    flow::find(&work.key).and_then(|found| restore(context, work, found)).unwrap_or(Verdict::Pass)
}

/// Restores the addresses and ports of a reply, if the flow that was found is alive.
#[inline(never)]
pub(crate) fn restore<F: Datapath>(
    context: &TcContext,
    work: &mut Work<F>,
    found: Found<F>,
) -> Option<Verdict> {
    if !restores(work, found) {
        return None;
    }
    if !F::rewrite(context, work) {
        blame(work, failure(&work.packet));
        return Some(Verdict::Drop);
    }
    traffic::translated::<F>(work.flow.service, work.flow.kind, context.len());
    if work.packet.part == Part::FIRST {
        fragment::remember(work, Hook::EGRESS);
    }
    Some(Verdict::Pass)
}

/// Takes note of a reply; says whether its addresses and ports are to be restored.
#[inline(never)]
fn restores<F: Datapath>(work: &mut Work<F>, found: Found<F>) -> bool {
    work.flow.to = found.flow().to;
    work.flow.kind = found.flow().kind;
    (work.flow.service, work.service) = (found.flow().service, found.flow().service);
    if found.is_expired(work.packet.protocol, work.now) || !found.is(&work.key) {
        return false;
    }
    found.observe(work, Side::Backend);
    work.flow.to != work.packet.tuple
}
