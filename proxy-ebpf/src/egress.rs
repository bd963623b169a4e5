// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Replies: from a backend, on their way to the client that asked the frontend.

use aya_ebpf::programs::TcContext;
use proxy_common::{
    counter::Reason,
    flow::{FlowKey, Hook},
};

use crate::{
    blame::{self, blame},
    family::Datapath,
    flow::{self, Found, Side},
    rewrite::rewrite,
    verdict::Verdict,
    work::Work,
};

/// Handles a frame to a client. A function of its own, as each family has its own stack.
#[inline(never)]
pub(crate) fn run<F: Datapath>(context: &TcContext) -> i32 {
    blame::decide(context, decide::<F>)
}

#[inline(always)]
fn decide<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Verdict {
    if !work.packet.parse(context) {
        return Verdict::Pass;
    }
    work.now = flow::now();
    work.key = FlowKey::new(work.packet.tuple, work.packet.protocol, Hook::EGRESS);
    let Some(found) = flow::find(&work.key) else {
        return Verdict::Pass;
    };
    work.confirmed = u8::from(found.confirmed);
    if !restores(work, &found) {
        return Verdict::Pass;
    }
    if !rewrite(context, &work.packet, &work.flow.to) {
        blame(work, Reason::DropRewrite);
        return Verdict::Drop;
    }
    Verdict::Pass
}

/// Takes note of a reply; says whether its addresses and ports are to be restored.
#[inline(never)]
fn restores<F: Datapath>(work: &mut Work<F>, found: &Found<F>) -> bool {
    let found = Found { entry: found.entry, confirmed: work.confirmed != 0 };
    work.flow.to = found.flow().to;
    work.flow.kind = found.flow().kind;
    if found.is_expired(work.packet.protocol, work.now) || !found.is(&work.key) {
        return false;
    }
    found.observe(work, Side::Backend);
    work.flow.to != work.packet.tuple
}
