// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Flows that nothing ends but silence: confirmed ones of datagrams, and of SCTP, whose last packet may be lost. Nobody
//! may be left to collect them. So each takes a place in a queue when it is confirmed, and who comes makes room where
//! one has been silent too long, as the hand of a clock does that goes around them: it looks at the next places. A flow
//! that goes on is never ended: if all of these do, who comes goes without a place, and tries again once a second.
//!
//! Where the table is full, a hand goes around the places of all queues, for who opens a flow: those that are over make
//! room, and those that both sides have ended.

use core::ptr;

use aya_ebpf::{
    cty::{c_long, c_void},
    helpers::bpf_loop,
};
use proxy_common::{
    Protocol,
    counter::Reason,
    flow::{Flow, Kind, Queue, Waiting, all_places},
};

use crate::{
    counter::count,
    family::Datapath,
    flow::{Found, find, name_replies},
    maps::{ENDLESS_PLACES, PLACES},
    queue::{NOWHERE, counter},
    work::Work,
};

/// How many places are looked at for a free one. They are this flow's alone to take until all others have had their
/// turn.
const CHOICES: u32 = 4;

/// How many are looked at where the table is full.
const GLANCES: u32 = 16;

/// Which counter is that of all places.
const ALL: u32 = 3;

/// What was found of the flow that has a place.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// It goes on.
    GoesOn,
    /// It is gone, or has another place.
    Gone,
    /// It was over, and is gone now.
    Ended,
}

/// Whether a forward entry is that of a flow that should have a place, and has none.
#[inline(always)]
pub(crate) fn lacks_place<F: Datapath>(flow: &Flow<F>, protocol: Protocol) -> bool {
    protocol != Protocol::TCP
        && flow.proof == NOWHERE
        && flow.is_confirmed()
        && !flow.kind.has(Kind::REPLY)
}

/// Finds a place for the confirmed flow of [`Work::key`] with this forward entry, if it is to have one and has none.
#[inline(never)]
pub(crate) fn settle<F: Datapath>(work: &mut Work<F>, entry: *mut Flow<F>, is_new: bool) {
    let found = Found { entry };
    if work.key.protocol == Protocol::TCP
        || !is_new && !lacks_place(found.flow(), work.key.protocol)
    {
        return;
    }
    let number = counter::<F>(Queue::Endless as u32).add(CHOICES.into());
    #[expect(clippy::cast_possible_truncation, reason = "its last bits are of interest")]
    let first = number as u32 & ENDLESS_PLACES.load().wrapping_sub(1);
    let first = all_places(PLACES.load(), first);
    let mut own = NOWHERE;
    for place in (0..CHOICES).map(|turn| first + turn) {
        let Some(row) = F::tables().waiting.get_ptr_mut(place) else {
            break;
        };
        if own == NOWHERE && vacate(work, row, place, false) != Holder::GoesOn {
            // SAFETY: a row of an array is never freed, and its turn is this processor's.
            let row = unsafe { &mut *row };
            (row.key, row.is_taken) = (work.key, 1);
            own = place;
        }
    }
    if own == NOWHERE {
        count::<F>(Reason::FlowUnplaced);
    }
    if found.is(&work.key) {
        // SAFETY: map memory, see `Found`.
        unsafe { (*entry).proof = own };
    }
}

/// Ends the flow that has a place if it has been silent too long, or if it is closed and that is `enough`. Whoever else
/// gives such a flow a new beginning in that very instant may lose an entry of it, which the next packet brings back.
#[inline(never)]
fn vacate<F: Datapath>(
    work: &mut Work<F>,
    row: *mut Waiting<F>,
    place: u32,
    enough: bool,
) -> Holder {
    // SAFETY: a row of an array is never freed.
    let row = unsafe { &*row };
    if row.is_taken == 0 {
        return Holder::Gone;
    }
    let Some(found) = find(&row.key) else {
        return Holder::Gone;
    };
    let (flow, protocol, now) = (found.flow(), row.key.protocol, crate::flow::now());
    let is_over = found.is_expired(protocol, now) || enough && flow.is_closed();
    let is_here = flow.proof == place;
    name_replies(&mut work.evicted, &flow.to, protocol, flow.kind);
    if !found.is(&row.key) {
        return Holder::GoesOn;
    }
    if !is_over {
        return if is_here { Holder::GoesOn } else { Holder::Gone };
    }
    let reply = find(&work.evicted).filter(|reply| reply.answers(&row.key.tuple));
    // Both entries are noted one after the other.
    if let Some(reply) = reply
        && !reply.is_expired(protocol, now)
        && !(enough && reply.flow().is_closed())
    {
        return Holder::GoesOn;
    }
    let flows = F::tables().flows;
    // Whether it is still there does not matter: it is to be gone.
    let _: Result<(), i32> = flows.remove(&row.key);
    if reply.is_some() {
        let _: Result<(), i32> = flows.remove(&work.evicted);
    }
    count::<F>(Reason::FlowExpired);
    Holder::Ended
}

/// Makes room in the table for one flow, if one of the next in the queues is over; says whether.
#[inline(never)]
pub(crate) fn make_room<F: Datapath>(work: &mut Work<F>) -> bool {
    work.has_room = 0;
    let work = core::hint::black_box(work);
    // SAFETY: the function is of the kind that the helper takes, and finds the working memory, which is given up to
    // it, by itself.
    let _: c_long = unsafe { bpf_loop(GLANCES, glance::<F> as *mut c_void, ptr::null_mut(), 0) };
    work.has_room != 0
}

/// A look at one place; says whether it is the last one (not zero).
extern "C" fn glance<F: Datapath>(_: u32, _: *mut c_void) -> c_long {
    let Some(work) = Work::<F>::get() else {
        return 1;
    };
    let all = all_places(PLACES.load(), ENDLESS_PLACES.load()).max(1);
    #[expect(clippy::cast_possible_truncation, reason = "it comes round")]
    let place = counter::<F>(ALL).add(1) as u32 % all;
    let Some(row) = F::tables().waiting.get_ptr_mut(place) else {
        return 1;
    };
    // Its row stays as it is: who comes there finds that nobody has it.
    work.has_room = u8::from(vacate(work, row, place, true) == Holder::Ended);
    work.has_room.into()
}
