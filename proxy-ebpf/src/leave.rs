// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What leaves the node by an uplink or a tunnel: replies to clients outside get their frontend's
//! address back, what clients send to backends elsewhere gets the node's, and what must not leave
//! is held back.

use aya_ebpf::programs::TcContext;
use proxy_common::{
    counter::Reason,
    flow::{Flow, FlowKey, Hook, Kind},
};

use crate::{
    blame::{self, blame},
    egress::restore,
    family::Datapath,
    flow,
    follow::{self, Follow, Serving},
    fragment,
    frame::take_request_mark,
    guard, icmp_error, known,
    masquerade::{self, Masquerading},
    packet::{Parsed, Part},
    passing,
    verdict::Verdict,
    work::Work,
};

/// Handles a frame that leaves the node, with its network header at `network`.
#[inline(always)]
pub(crate) fn run<F: Datapath>(context: &TcContext, network: usize) -> i32 {
    if take_request_mark(context) {
        return Verdict::Pass.to_action();
    }
    match known::follow::<F, true, true>(context, network).verdict() {
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
    work.outside = 1;
    work.now = flow::now();
    work.epoch = passing::epoch::<F>();
    let parsed = work.packet.parse(context, network);
    let translated = match parsed {
        Parsed::Transport => translate(context, work),
        Parsed::Error => match icmp_error::forward(context, work, Hook::EGRESS) {
            Some(verdict) => return verdict,
            None => Translated::No,
        },
        Parsed::Nothing | Parsed::Unserved | Parsed::Other => Translated::No,
    };
    match translated {
        Translated::No => guard::run(context, work, network, parsed),
        Translated::Yes => Verdict::Pass,
        Translated::Dropped => Verdict::Drop,
        Translated::NoPort => masquerade::refuse(context, work),
    }
}

/// What became of a packet.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Translated {
    /// It belongs to no flow.
    No,
    /// It goes on.
    Yes,
    /// It does not; this has been counted.
    Dropped,
    /// There is no free port for it to be masqueraded with.
    NoPort,
}

/// Translates a packet, if it belongs to a flow or is to be masqueraded.
#[inline(never)]
fn translate<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Translated {
    let part = work.packet.part;
    match part {
        Part::FIRST => fragment::forget(work, Hook::EGRESS),
        // The first fragment has not been here, or was not a flow's.
        Part::LATER if !fragment::recall(work, Hook::EGRESS) => return Translated::No,
        _ => {}
    }
    work.key = FlowKey::new(work.packet.tuple, work.packet.protocol, Hook::EGRESS);
    if let Some(found) = flow::find(&work.key) {
        if found.flow().kind.has(Kind::REPLY) {
            return match restore(context, work, found) {
                Some(Verdict::Pass) => Translated::Yes,
                Some(_) => Translated::Dropped,
                None => Translated::No,
            };
        }
        match follow::serves(work, found.entry) {
            Serving::Yes if masquerade::has_moved(context, work, found) => {
                flow::forget(&work.key, found.entry);
            }
            Serving::Yes => return forward(context, work, found.entry),
            Serving::NotOurs => return Translated::No,
            Serving::NoMore => flow::forget(&work.key, found.entry),
        }
    }
    if !masquerade::is_due(context, work) {
        return Translated::No;
    }
    let reason = match masquerade::open(context, work) {
        Masquerading::Entered => {
            if let Some(found) = flow::find(&work.key) {
                return forward(context, work, found.entry);
            }
            Reason::DropFlowInsert
        }
        Masquerading::NoRoom => Reason::DropFlowInsert,
        Masquerading::NoAddress => Reason::DropMasquerade,
        Masquerading::NoPort => return Translated::NoPort,
    };
    blame(work, reason);
    Translated::Dropped
}

/// Sends a packet of a masqueraded flow on.
#[inline(always)]
fn forward<F: Datapath>(
    context: &TcContext,
    work: &mut Work<F>,
    entry: *mut Flow<F>,
) -> Translated {
    match follow::translate::<F, false>(context, work, entry) {
        Follow::Drop | Follow::Unfold => Translated::Dropped,
        Follow::Pass | Follow::GoPast | Follow::TurnAround => Translated::Yes,
    }
}
