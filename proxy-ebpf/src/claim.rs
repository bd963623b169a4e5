// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The entries of a new flow: the tuple of its replies is claimed, then the flow is entered.

use aya_ebpf::{bindings::BPF_ANY, helpers::bpf_get_prandom_u32};
use proxy_common::{
    Port,
    flow::{FlowKey, Kind, Seen},
};

use crate::{
    choice::random,
    family::Datapath,
    flow::{Found, NEW, find},
    maps::SOURCE_PORTS,
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

/// Enters [`Work::flow`] into the tables, with [`Work::key`]: the replies' entry first, so that
/// whoever finds the flow finds all of it. If they are another flow's already, the source gets
/// another port. All of the flow that is not the packet's must be there: where it leads to, its
/// kind, its backend and the MAC address.
#[inline(always)]
pub(crate) fn enter_with_free_port<F: Datapath>(work: &mut Work<F>) -> Entered {
    let flow = &mut work.flow;
    flow.last_seen = work.now;
    // Until the backend's SYN tells it: a number that nobody can know.
    // SAFETY: the helper takes nothing.
    flow.proof = unsafe { bpf_get_prandom_u32() };
    flow.client_seen = Seen(Seen::ANY);
    flow.backend_seen = Seen::default();
    flow.reserved = [0; 3];
    work.source = flow.to.source_port;
    let own_port = work.source;
    let has_port = claim_port(work, true) || claim_another_port(work);
    if !has_port {
        return Entered::NoPort;
    }
    if !enter(work) {
        return Entered::NoRoom;
    }
    if work.source == own_port { Entered::AsIs } else { Entered::WithAnotherPort }
}

/// Makes [`Work::reply_key`] that of the replies to [`Work::source`].
#[inline(always)]
fn set_reply_key<F: Datapath>(work: &mut Work<F>) {
    work.flow.to.source_port = work.source;
    let (to, kind) = (&work.flow.to, work.flow.kind);
    work.reply_key = FlowKey::new(to.reversed(), work.packet.protocol, kind.reply_hook());
}

/// Takes the replies to [`Work::source`] for [`Work::flow`], which is the forward entry before and
/// after; from whom they belong to now, if that one gives them away.
#[inline(always)]
fn claim_port<F: Datapath>(work: &mut Work<F>, gives_way: bool) -> bool {
    set_reply_key(work);
    let (to, kind) = (work.flow.to, work.flow.kind);
    work.flow.to = work.packet.tuple.reversed();
    work.flow.kind.0 = kind.0 | Kind::REPLY;
    work.flow.label(&work.reply_key);
    let is_taken = if gives_way {
        claim(work)
    } else {
        F::tables().half_open.insert(&work.reply_key, &work.flow, NEW).is_ok()
    };
    work.flow.to = to;
    work.flow.kind = kind;
    work.flow.label(&work.key);
    is_taken
}

/// Looks for a port, as [`Work::source`], to which nobody is answered, and takes it.
#[inline(never)]
fn claim_another_port<F: Datapath>(work: &mut Work<F>) -> bool {
    let tables = F::tables();
    for _ in 0..PORT_ATTEMPTS {
        work.source = source_port();
        set_reply_key(work);
        // Those that have ended keep theirs until they are collected: to look at each of them would
        // be much for the verifier, so often.
        if tables.flows.get_ptr(&work.reply_key).is_none()
            && tables.half_open.get_ptr(&work.reply_key).is_none()
        {
            return claim_port(work, false);
        }
    }
    false
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
    let tables = F::tables();
    work.former = work.flow.to;
    if let Some(entry) = tables.flows.get_ptr_mut(&work.reply_key) {
        let found = Found { entry, confirmed: true };
        work.former = found.flow().to;
        work.former_kind = found.flow().kind;
        if !gives_way(work, found) || !found.is(&work.reply_key) {
            return false;
        }
        let _: Result<(), i32> = tables.flows.remove(&work.reply_key);
    }
    if tables.half_open.insert(&work.reply_key, &work.flow, NEW).is_err() {
        let Some(entry) = tables.half_open.get_ptr_mut(&work.reply_key) else {
            return false;
        };
        let found = Found { entry, confirmed: false };
        // What was left at the promotion of the former flow goes with it.
        if work.former == work.flow.to {
            work.former = found.flow().to;
            work.former_kind = found.flow().kind;
            if !gives_way(work, found) {
                return false;
            }
        } else if found.flow().to != work.former {
            return false;
        }
        if tables.half_open.insert(&work.reply_key, &work.flow, ANY).is_err() {
            return false;
        }
    }
    if work.former != work.flow.to {
        dismiss(work);
    }
    true
}

/// Forgets the forward entry of the flow whose replies' entry was [`Work::former`]: its late
/// packets are nobody's. They would be taken for the new flow's at the backend.
#[inline(never)]
fn dismiss<F: Datapath>(work: &Work<F>) {
    let tables = F::tables();
    let hook = work.former_kind.forward_hook();
    let forward = FlowKey::new(work.former.reversed(), work.reply_key.protocol, hook);
    if let Some(found) = find(&forward)
        && found.answers(&work.reply_key.tuple)
    {
        let _: Result<(), i32> = tables.flows.remove(&forward);
        let _: Result<(), i32> = tables.half_open.remove(&forward);
    }
}

/// Whether an entry of another flow's replies leaves its place to [`Work::flow`].
#[inline(always)]
fn gives_way<F: Datapath>(work: &Work<F>, found: Found<F>) -> bool {
    let flow = found.flow();
    found.is_expired(work.reply_key.protocol, work.now)
        || flow.to == work.flow.to
        || work.packet.is_tcp() && flow.is_closed()
}

/// Enters [`Work::flow`] as the forward entry of a new flow, or finds that another processor has
/// just done so for another packet of it (two datagrams of one socket).
#[inline(never)]
fn enter<F: Datapath>(work: &mut Work<F>) -> bool {
    let tables = F::tables();
    if tables.half_open.insert(&work.key, &work.flow, NEW).is_ok() {
        return true;
    }
    let Some(entry) = tables.half_open.get_ptr_mut(&work.key) else {
        return false;
    };
    let found = Found { entry, confirmed: false };
    if found.is_expired(work.packet.protocol, work.now) {
        return tables.half_open.insert(&work.key, &work.flow, ANY).is_ok();
    }
    if found.flow().to != work.flow.to {
        // The other one's flow stands, and this one's replies are not expected.
        let _: Result<(), i32> = tables.half_open.remove(&work.reply_key);
    }
    true
}
