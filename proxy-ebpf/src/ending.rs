// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! How flows end: by the last packets of both sides. Then they wait, for two minutes or until others need
//! their place.

use proxy_common::flow::{Flow, FlowKey, Kind, Queue, Seen, Tuple};

use crate::{
    family::Datapath,
    flow::{self, Found, Side},
    queue,
};

/// Whether a flow of which this had been seen ends, if it is seen that this side sends no more.
#[inline(always)]
pub(crate) const fn ends([client, backend]: [Seen; 2], side: Side) -> bool {
    let (own, other) = match side {
        Side::Client => (client, backend),
        Side::Backend => (backend, client),
    };
    client.has(Seen::PROVEN) && other.has(Seen::FIN) && !own.has(Seen::FIN)
}

/// Has a flow that both sides have ended wait for its end, by the key of its forward entry.
#[inline(always)]
pub(crate) fn close<F: Datapath>(key: &FlowKey<F>, forward: *mut Flow<F>) {
    let place = queue::wait(Queue::Closed, key);
    // SAFETY: map memory, see `Found`.
    unsafe { (*forward).proof = place };
}

/// Takes note of a FIN in both entries of its flow, if both are there and have seen no RST: see
/// [`Found::observe`].
#[inline(always)]
pub(crate) fn note<F: Datapath>(key: &FlowKey<F>, own: Found<F>, to: &Tuple<F>) -> bool {
    let kind = own.flow().kind;
    let is_reply = kind.has(Kind::REPLY);
    let (side, hook) = if is_reply {
        (Side::Backend, kind.forward_hook())
    } else {
        (Side::Client, kind.reply_hook())
    };
    let other_key = FlowKey::new(to.reversed(), key.protocol, hook);
    let Some(other) = flow::find(&other_key) else {
        return false;
    };
    // What takes a RST back is told on the long way; and the other entry may be another flow's.
    let seen = Seen(other.flow().client_seen.0 | other.flow().backend_seen.0);
    if seen.has(Seen::RST) || !other.answers(&key.tuple) {
        return false;
    }
    let now = flow::now();
    let before = [own, other].map(|entry| entry.see(side, Seen::ANY | Seen::FIN));
    for entry in [own.entry, other.entry] {
        // SAFETY: map memory, see `Found`.
        unsafe { (*entry).last_seen = now };
    }
    // The forward entry decides: of the last packets of both sides, one finds the other there.
    if ends(before[usize::from(is_reply)], side) {
        let (key, forward) = if is_reply { (&other_key, other) } else { (key, own) };
        close(key, forward.entry);
    }
    true
}
