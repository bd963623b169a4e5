// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Connections that are nothing of ours, remembered for a second: packets of theirs would be looked up among the
//! frontends time and again. A cache: what is not in it is looked up.
//!
//! Only packets amid TCP connections are let through by it, and only those of no flow, for flows are asked
//! first. A frontend that is new empties it. Replies past the host's stack have no flow at the hook where they
//! reach the node: what opens one takes them out of the cache. Where such a reply is looked up while another
//! processor opens the flow, it may be remembered all the same: the flow then waits for a second, as for a lost
//! packet.

use proxy_common::{
    clock::Tick,
    flow::FlowKey,
    passing::{Epoch, PASSING_ROWS, Passing},
};

use crate::{family::Datapath, packet::Part, work::Work};

/// The present epoch. What is looked up afterwards may be remembered in it.
#[inline(always)]
pub(crate) fn epoch<F: Datapath>() -> Epoch {
    // SAFETY: a row of an array is never freed; its word is read whole.
    F::tables().epoch.get_ptr(0).map_or(Epoch::default(), |epoch| unsafe { epoch.read_volatile() })
}

/// Takes note of a packet that belongs to no flow and is for no frontend.
#[inline(always)]
pub(crate) fn remember<F: Datapath>(work: &Work<F>) {
    let packet = &work.packet;
    if !packet.is_tcp() || packet.part != Part::WHOLE || packet.opens_flow() {
        return;
    }
    note::<F>(work.key.tag(), work.epoch, work.now, work.outside != 0);
}

/// Takes note of such a packet of a TCP connection, whole, which opens none, by its flow entry's tag, at
/// a device that leads out of the node or at one of the node's own. It was looked up in this epoch.
#[inline(always)]
pub(crate) fn note<F: Datapath>(tag: u32, epoch: Epoch, now: Tick, outside: bool) {
    let [first, second] = rows(tag);
    let is_free =
        |row| get::<F>(row).is_none_or(|known| known.is_of(tag) || !known.holds(epoch, now));
    let row = if is_free(first) { first } else { second };
    put::<F>(row, Passing::new(tag, epoch, now, outside));
}

/// Whether a packet amid a TCP connection belongs to one that has just been remembered at a device of
/// the same kind. What leaves the node is asked about more than what goes to its pods.
#[inline(always)]
pub(crate) fn is_known<F: Datapath>(key: &FlowKey<F>, now: Tick, outside: bool) -> bool {
    let tag = key.tag();
    let is_own = |row| {
        get::<F>(row).is_some_and(|known| {
            known.is_of(tag) && known.is_at(outside) && known.holds(epoch::<F>(), now)
        })
    };
    let [first, second] = rows(tag);
    is_own(first) || is_own(second)
}

/// Takes packets whose flow entry has this tag out of the cache.
#[inline(always)]
pub(crate) fn forget<F: Datapath>(tag: u32) {
    for row in rows(tag) {
        if get::<F>(row).is_some_and(|known| known.is_of(tag)) {
            put::<F>(row, Passing::NOBODY);
        }
    }
}

#[inline(always)]
fn get<F: Datapath>(row: u32) -> Option<Passing> {
    // SAFETY: a row of an array is never freed; its word is read whole.
    F::tables().passing.get_ptr(row).map(|known| unsafe { known.read_volatile() })
}

#[inline(always)]
fn put<F: Datapath>(row: u32, passing: Passing) {
    if let Some(known) = F::tables().passing.get_ptr_mut(row) {
        // SAFETY: as above; written whole.
        unsafe { known.write_volatile(passing) };
    }
}

/// The two rows where a tag may be: next to each other, so that one comes with the other.
#[inline(always)]
const fn rows(tag: u32) -> [u32; 2] {
    let first = tag % PASSING_ROWS;
    [first, first ^ 1]
}
