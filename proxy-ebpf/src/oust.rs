// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Flows that give their place to new ones: whose replies a new flow would have, if it has to.

use proxy_common::{
    clock::seconds,
    flow::{FlowKey, Hook},
};

use crate::{
    claim::{claim_new, set_reply_key},
    family::Datapath,
    flow::{Found, NEW, find},
    work::Work,
};

/// Ticks of silence after which a flow that has ended, or whose client has proven nothing, leaves its
/// port to a new one, where none is free: longer than a handshake or a look-up takes. Whoever forges
/// senders takes as many ports as in this time, not in that of a half-open flow; and short
/// connections do not keep theirs for as long as a socket in `TIME_WAIT`.
const PATIENCE: u32 = seconds(1);

/// The same for a flow of datagrams whose client has sent another one after an answer: Linux's
/// `nf_conntrack_udp_timeout`.
const DATAGRAM_PATIENCE: u32 = seconds(30);

/// Whether a flow is over, and its entries are only left.
#[inline(always)]
fn has_ended<F: Datapath>(work: &Work<F>, found: Found<F>) -> bool {
    found.flow().is_closed() || found.is_expired(work.reply_key.protocol, work.now)
}

/// The silence of a flow, in ticks, if it may leave its port for one that has none; else nothing.
#[inline(always)]
pub(crate) fn dispensable<F: Datapath>(work: &Work<F>, found: Found<F>) -> u32 {
    let silence = work.now.since(found.flow().last_seen);
    // What proves a client of datagrams can be forged.
    let may_be_forged = work.packet.is_datagram() && silence > DATAGRAM_PATIENCE;
    let keeps = found.flow().is_confirmed() && !may_be_forged && !has_ended(work, found);
    if keeps { 0 } else { silence }
}

/// Takes the port of the flow that has been silent for longest among those that were looked at, and
/// ends it, if it has been for long enough.
#[inline(never)]
pub(crate) fn take_over<F: Datapath>(work: &mut Work<F>) -> bool {
    if work.silence <= PATIENCE {
        return false;
    }
    want_stalest(work);
    alone(work, replace)
}

/// A function of its own, as are its like here, for the sake of the stack.
#[inline(never)]
fn want_stalest<F: Datapath>(work: &mut Work<F>) {
    work.wanted.source_port = work.stalest;
    set_reply_key(work);
}

#[inline(never)]
fn replace<F: Datapath>(work: &mut Work<F>) -> bool {
    if let Some(found) = find(&work.reply_key) {
        work.former = found.flow().to;
        work.former_kind = found.flow().kind;
        // It may have gone on meanwhile, or be the new flow of another processor.
        if dispensable(work, found) <= PATIENCE || !found.is(&work.reply_key) {
            return false;
        }
        let _: Result<(), i32> = F::tables().flows.remove(&work.reply_key);
        work.ousts = 1;
    }
    claim_new(work)
}

/// Does something about [`Work::reply_key`] while no other processor does such a thing. Whoever
/// comes second does nothing. Between finding an entry that may be replaced and replacing it, another
/// processor may have put its own there, for a new flow with the same idea: that would be replaced
/// instead.
#[inline(always)]
pub(crate) fn alone<F: Datapath>(work: &mut Work<F>, act: fn(&mut Work<F>) -> bool) -> bool {
    let flows = F::tables().flows;
    work.former_key = work.reply_key;
    work.former_key.hook = Hook::BEING_REPLACED;
    if flows.insert(&work.former_key, &work.flow, NEW).is_err() {
        return false;
    }
    let has_acted = act(work);
    let _: Result<(), i32> = flows.remove(&work.former_key);
    has_acted
}

/// Forgets the forward entry of the flow whose replies' entry was [`Work::former`]: its late
/// packets are nobody's. They would be taken for the new flow's at the backend.
#[inline(never)]
pub(crate) fn dismiss<F: Datapath>(work: &mut Work<F>) {
    let hook = work.former_kind.forward_hook();
    work.former_key = FlowKey::new(work.former.reversed(), work.reply_key.protocol, hook);
    if let Some(found) = find(&work.former_key)
        && found.answers(&work.reply_key.tuple)
    {
        let _: Result<(), i32> = F::tables().flows.remove(&work.former_key);
    }
}
