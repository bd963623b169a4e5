// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The entries of a new flow: the tuple of its replies is claimed, then the flow is entered.

use core::{hint, ptr};

use aya_ebpf::{
    bindings::BPF_ANY,
    cty::{c_long, c_void},
    helpers::{bpf_get_prandom_u32, bpf_loop},
    programs::TcContext,
};
use proxy_common::{
    Port,
    flow::{FlowKey, Kind, Queue, Seen},
};

use crate::{
    choice::random,
    endless,
    family::Datapath,
    fast,
    flow::{Found, NEW, find},
    foreign_nat,
    maps::SOURCE_PORTS,
    oust::{alone, dismiss, dispensable, take_over},
    queue,
    work::Work,
};

/// Insert or replace.
const ANY: u64 = BPF_ANY as u64;

/// Source ports that are looked at for one whose replies are nobody's. With nine in ten taken, one
/// flow in thirty finds none.
const PORT_ATTEMPTS: u32 = 32;

/// What became of a flow that was to be entered.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    /// It is there.
    AsIs,
    /// It is there, with another source port.
    WithAnotherPort,
    /// There is no room.
    NoRoom,
    /// No source port was found whose replies are nobody's.
    NoPort,
}

impl Entered {
    /// The one with this number.
    #[inline(always)]
    pub(crate) fn of(number: u32) -> Self {
        match number {
            number if number == Self::AsIs as u32 => Self::AsIs,
            number if number == Self::WithAnotherPort as u32 => Self::WithAnotherPort,
            number if number == Self::NoRoom as u32 => Self::NoRoom,
            _ => Self::NoPort,
        }
    }
}

/// Has a flow wait among the half-open ones, and enters it: see [`enter_with_free_port`].
#[inline(always)]
pub(crate) fn enter_at_place<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Entered {
    work.place = queue::wait(Queue::HalfOpen, &work.key);
    let mut entered = F::enter(context, work);
    if entered == Entered::NoRoom && endless::make_room(work) {
        begin_again(work);
        entered = F::enter(context, work);
    }
    if entered == Entered::NoRoom || entered == Entered::NoPort {
        queue::leave::<F>(work.place);
    }
    entered
}

/// Makes [`Work::flow`] again what it was before it was not entered.
#[inline(always)]
fn begin_again<F: Datapath>(work: &mut Work<F>) {
    (work.flow.to, work.flow.kind) = (work.wanted, work.wanted_kind);
    work.flow.to.source_port = work.packet.tuple.source_port;
    if work.wanted_kind.is_folded() {
        work.flow.doubt_way();
    }
}

/// Enters [`Work::flow`] into the table, with [`Work::key`]: the replies' entry first, so that
/// whoever finds the flow finds all of it. If they are another flow's already, the source gets
/// another port. All of the flow that is not the packet's must be there: where it leads to, its
/// kind, its backend, the MAC address and its place.
#[inline(always)]
pub(crate) fn enter_with_free_port<F: Datapath>(work: &mut Work<F>) -> Entered {
    let flow = &mut work.flow;
    flow.last_seen = work.now;
    flow.client_seen = Seen(Seen::ANY);
    flow.backend_seen = Seen::default();
    (work.wanted, work.wanted_kind) = (flow.to, flow.kind);
    // Where the source's address becomes the node's, the client's port would take the replies of the
    // node's own connections.
    let keeps_port = !flow.kind.has(Kind::HAIRPIN | Kind::MASQUERADED) && !flow.kind.is_folded();
    (work.ousts, work.is_full) = (0, 0);
    let is_own = keeps_port && claim_own_port(work);
    let is_claimed = is_own || claim_free_port(work) || take_over(work);
    if work.ousts != 0 {
        dismiss(work);
    }
    if !is_claimed {
        return if work.is_full == 0 { Entered::NoPort } else { Entered::NoRoom };
    }
    if work.wanted_kind.is_folded() {
        // See `folded::make`.
        work.flow.trust_way(work.came_by);
    } else if work.wanted_kind.has(Kind::FAST) {
        fast::expect_replies(work);
    }
    work.flow.to = work.wanted;
    work.flow.kind = work.wanted_kind;
    // Until the backend's SYN tells it: a number that nobody can know.
    // SAFETY: the helper takes nothing.
    work.flow.proof = unsafe { bpf_get_prandom_u32() };
    work.flow.label(&work.key);
    if !enter(work) {
        return Entered::NoRoom;
    }
    if is_own || !keeps_port { Entered::AsIs } else { Entered::WithAnotherPort }
}

/// Makes [`Work::reply_key`] that of the replies to [`Work::wanted`].
#[inline(always)]
pub(crate) fn set_reply_key<F: Datapath>(work: &mut Work<F>) {
    let hook = work.wanted_kind.reply_hook();
    work.reply_key = FlowKey::new(work.wanted.reversed(), work.packet.protocol, hook);
}

/// Makes [`Work::flow`] the entry of [`Work::reply_key`].
#[inline(always)]
fn make_reply<F: Datapath>(work: &mut Work<F>) {
    work.flow.to = work.packet.tuple.reversed();
    work.flow.kind.0 = work.wanted_kind.0 | Kind::REPLY;
    work.flow.proof = work.place;
    work.flow.label(&work.reply_key);
}

/// Takes the replies to [`Work::wanted`] if nobody has them.
#[inline(always)]
pub(crate) fn claim_new<F: Datapath>(work: &mut Work<F>) -> bool {
    make_reply(work);
    F::tables().flows.insert(&work.reply_key, &work.flow, NEW).is_ok()
}

/// Takes the replies to [`Work::wanted`]; from whom they belong to now, if that one gives them away.
#[inline(always)]
fn claim_own_port<F: Datapath>(work: &mut Work<F>) -> bool {
    set_reply_key(work);
    make_reply(work);
    claim(work)
}

/// Takes the first port of some for [`Work::wanted`] to which nobody is answered. Leaves in
/// [`Work::stalest`] that of the flow which has been silent for longest, of those that have ended or
/// are half-open.
#[inline(always)]
fn claim_free_port<F: Datapath>(work: &mut Work<F>) -> bool {
    work.silence = 0;
    work.claimed = 0;
    let work = hint::black_box(work);
    // The verifier would go through a loop's body as often as the loop does; through this one's it
    // goes once or twice (Linux commit e6f2dd0f8067).
    // SAFETY: the function is of the kind that the helper takes, and finds the working memory, which
    // is given up to it, by itself.
    let _: c_long =
        unsafe { bpf_loop(PORT_ATTEMPTS, try_a_port::<F> as *mut c_void, ptr::null_mut(), 0) };
    work.claimed != 0
}

/// One of these attempts; says whether it is the last one (not zero).
extern "C" fn try_a_port<F: Datapath>(_: u32, _: *mut c_void) -> c_long {
    let Some(work) = Work::<F>::get() else {
        return 1;
    };
    work.wanted.source_port = source_port();
    set_reply_key(work);
    let Some(found) = find(&work.reply_key) else {
        // Unless another processor has just taken it.
        let is_mine = claim_new(work);
        work.claimed = u8::from(is_mine);
        if !is_mine && find(&work.reply_key).is_none() {
            work.is_full = 1;
        }
        return (is_mine || work.is_full != 0).into();
    };
    let silence = dispensable(work, found);
    if silence > work.silence {
        work.silence = silence;
        work.stalest = work.wanted.source_port;
    }
    0
}

/// A random port of those that translated sources take.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "two ports in one word")]
pub(crate) fn source_port() -> Port {
    let range = SOURCE_PORTS.load();
    let (first, last) = (range >> 16, range & 0xffff);
    Port::new((first + random(last - first + 1)) as u16)
}

/// Takes [`Work::reply_key`] for the replies of a new flow, with [`Work::flow`] as its entry. It
/// is taken if a flow that goes on has it, unless that is the very flow, left over or being opened
/// elsewhere: then the entries are the same. A connection that has been closed gives it up, as a
/// socket in `TIME_WAIT` does for a new SYN.
#[inline(never)]
fn claim<F: Datapath>(work: &mut Work<F>) -> bool {
    if F::tables().flows.insert(&work.reply_key, &work.flow, NEW).is_ok() {
        return true;
    }
    let Some(found) = find(&work.reply_key) else {
        work.is_full = 1;
        return false;
    };
    work.former = found.flow().to;
    work.former_kind = found.flow().kind;
    if !gives_way(work, found) || !found.is(&work.reply_key) {
        return false;
    }
    let is_same = work.former == work.flow.to;
    if !(if is_same { replace(work) } else { alone(work, replace) }) {
        return false;
    }
    work.ousts = u8::from(!is_same);
    true
}

/// Puts [`Work::flow`] into the place of the entry that was found to be [`Work::former`]'s, if it still is,
/// and gives way.
#[inline(always)]
fn replace<F: Datapath>(work: &mut Work<F>) -> bool {
    let Some(found) = find(&work.reply_key) else {
        return false;
    };
    found.flow().to == work.former
        && gives_way(work, found)
        && F::tables().flows.insert(&work.reply_key, &work.flow, ANY).is_ok()
}

/// Whether an entry of another flow's replies leaves its place to [`Work::flow`].
#[inline(always)]
fn gives_way<F: Datapath>(work: &Work<F>, found: Found<F>) -> bool {
    let flow = found.flow();
    // A RST counts here: its sender's port may be in use again at once, for another peer.
    let is_reset = Seen(flow.client_seen.0 | flow.backend_seen.0).has(Seen::RST);
    // Another version's programs, which come first, may still know what is over: its replies would be taken for those
    // of what begins here.
    let is_over = (flow.is_finished() || is_reset) && !foreign_nat::may_have_translated::<F>();
    is_over || flow.to == work.flow.to || found.is_expired(work.reply_key.protocol, work.now)
}

/// Enters [`Work::flow`] as the forward entry of a new flow, or finds that another processor has
/// just done so for another packet of it (two datagrams of one socket).
#[inline(never)]
fn enter<F: Datapath>(work: &mut Work<F>) -> bool {
    let flows = F::tables().flows;
    work.entered = 1;
    if flows.insert(&work.key, &work.flow, NEW).is_ok() {
        return true;
    }
    let Some(found) = find(&work.key) else {
        // There is no room.
        let _: Result<(), i32> = flows.remove(&work.reply_key);
        return false;
    };
    if found.is_expired(work.packet.protocol, work.now) {
        return flows.insert(&work.key, &work.flow, ANY).is_ok();
    }
    work.entered = 0;
    if found.flow().to != work.flow.to {
        // The other one's flow stands, and this one's replies are not expected.
        let _: Result<(), i32> = flows.remove(&work.reply_key);
    }
    true
}
