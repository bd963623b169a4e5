// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Queues of flows that make room for others: half-open ones, whose clients have proven nothing, and closed
//! ones. Each has as many places as there may be such flows. Who comes takes the next place; if that is
//! taken, one that is free among three others; if these are, too, the next place, and ends the flow that has
//! it still. So a flood of first packets ends half-open flows, the oldest first, and nobody else's; and where
//! few wait, none is ended.
//!
//! What ends a flow by another way may leave its place as it is: whoever takes it then finds another flow of
//! that key, or none. The third queue is of those that nobody ends: see [`endless`](crate::endless).

use proxy_common::{
    counter::Reason,
    flow::{FlowKey, Queue, Waiting},
};

use crate::{
    counter::count,
    family::Datapath,
    flow::find,
    maps::{NEXT_PLACES, PLACES, Word},
    work::Work,
};

/// How many places are looked at.
const CHOICES: u32 = 4;

/// The place of a flow that is in no queue.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// The counter of a family's places: of a queue, or after the queues that of all places.
#[inline(always)]
pub(crate) fn counter<F: Datapath>(queue: u32) -> &'static Word {
    &NEXT_PLACES.value[(F::INDEX * 4 + queue) as usize & 7]
}

/// Takes a place for the flow of a forward entry's key, where flows make room for each other.
#[inline(never)]
pub(crate) fn wait<F: Datapath>(queue: Queue, key: &FlowKey<F>) -> u32 {
    let (queue, places) = (queue as u32, PLACES.load());
    let number = counter::<F>(queue).add(1);
    // Far from each other: two processors with numbers that follow each other want none of the same.
    #[expect(clippy::cast_possible_truncation, reason = "its last bits are of interest")]
    let choice = |turn| {
        // The number of places is a power of two.
        let at = (number as u32).wrapping_add(places / CHOICES * turn) & places.wrapping_sub(1);
        queue * places + at
    };
    let waiting = F::tables().waiting;
    // SAFETY: a row of an array is never freed.
    let is_free =
        |place: &u32| waiting.get_ptr(*place).is_some_and(|row| unsafe { (*row).is_taken } == 0);
    let place = (0..CHOICES).map(choice).find(is_free).unwrap_or_else(|| choice(0));
    let Some(row) = waiting.get_ptr_mut(place) else {
        return NOWHERE;
    };
    // SAFETY: as above; and nobody else has this number before all others have had their turn.
    let row = unsafe { &mut *row };
    if row.is_taken != 0 {
        make_room(row, queue, place);
    }
    (row.key, row.is_taken) = (*key, 1);
    place
}

/// Ends the flow that has a place, if it still has. Its keys do not lie on the stack: there is none left.
#[inline(always)]
fn make_room<F: Datapath>(row: &Waiting<F>, queue: u32, place: u32) {
    let (Some(work), Some(found)) = (Work::<F>::get(), find(&row.key)) else {
        return;
    };
    let flow = found.flow();
    let is_half_open = queue == Queue::HalfOpen as u32;
    let waits =
        if is_half_open { !flow.is_confirmed() } else { flow.is_closed() && flow.proof == place };
    let hook = flow.kind.reply_hook();
    work.evicted = FlowKey::new(flow.to.reversed(), row.key.protocol, hook);
    if !waits || !found.is(&row.key) {
        return;
    }
    let reply = find(&work.evicted).filter(|reply| reply.answers(&row.key.tuple));
    if let Some(reply) = reply {
        // Without its reply entry a flow has no place, either.
        let own = reply.flow().proof;
        if is_half_open && own != place && own != NOWHERE {
            return;
        }
    }
    let flows = F::tables().flows;
    // Whether it is still there does not matter: it is to be gone.
    let _: Result<(), i32> = flows.remove(&row.key);
    if reply.is_some() {
        let _: Result<(), i32> = flows.remove(&work.evicted);
    }
    count::<F>(Reason::FlowEvicted);
}

/// Gives a place up, before its turn.
#[inline(always)]
pub(crate) fn leave<F: Datapath>(place: u32) {
    if let Some(row) = F::tables().waiting.get_ptr_mut(place) {
        // SAFETY: a row of an array is never freed.
        unsafe { (*row).is_taken = 0 };
    }
}
