// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Folded flows that have lost their way past the stack: a route leads to this node, through a tunnel, nowhere, or
//! takes smaller packets only. They become flows of the stack, with two entries for each of their translations: what
//! the client dialled becomes the backend where its packets come in, and the client becomes the node where they
//! leave. They stay such flows.

use proxy_common::flow::{Flow, FlowKey, Hook, Kind, Tuple};

use crate::{
    claim::source_port,
    family::Datapath,
    flow::{Found, NEW, find},
    queue::NOWHERE,
    work::Work,
};

/// Insert or replace.
const ANY: u64 = aya_ebpf::bindings::BPF_ANY as u64;

/// Source ports that are tried for the client as the backend would be told, if it had not been the node: its own, and
/// others where another flow of the client's to the backend has that.
const PORT_ATTEMPTS: u32 = 4;

/// The kinds of entries where the client's packets come in, and where they leave.
const INNER: u8 = Kind::OUTSIDE | Kind::MASQUERADE;
const OUTER: u8 = Kind::MASQUERADED;

/// Unfolds the flow of the packet at hand, of which [`Work::key`] is the key, and this the entry. [`Work::flow`] then
/// says where the packet goes, if [`Work::is_unfolded`] says that it may. It is not returned: the verifier of Linux 6.1
/// may take what one path through here returns for what all do, and has the caller compiled for that alone.
#[inline(never)]
pub(crate) fn unfold<F: Datapath>(work: &mut Work<F>, entry: *mut Flow<F>) {
    work.is_unfolded = enter_all(work, entry).into();
}

/// Enters the four entries. What is needed meanwhile lies in the working memory, where entries are made that this
/// has nothing to do with: the stack has no room for it.
#[inline(always)]
fn enter_all<F: Datapath>(work: &mut Work<F>, entry: *mut Flow<F>) -> bool {
    let found = Found { entry };
    let is_reply = found.flow().kind.has(Kind::REPLY);
    // What the client has dialled, and what the backend is sent.
    if is_reply {
        work.wanted = found.flow().to.reversed();
        work.evicted.tuple = work.key.tuple.reversed();
    } else {
        work.wanted = work.key.tuple;
        work.evicted.tuple = found.flow().to;
    }
    let (own, dialled) = (&work.key.tuple, &work.wanted);
    work.reply_key =
        if is_reply { key(work, dialled) } else { key(work, &work.evicted.tuple.reversed()) };
    let Some(other) = find(&work.reply_key) else {
        return false;
    };
    if !other.answers(own) || !found.is(&work.key) {
        return false;
    }
    let (forward, reply) = if is_reply { (other.entry, entry) } else { (entry, other.entry) };
    // What goes from one of the two translations to the other.
    work.former = Tuple {
        source: work.wanted.source,
        source_port: work.wanted.source_port,
        ..work.evicted.tuple
    };
    // The replies' entry first, so that whoever finds the flow finds all of it.
    if !claim(work, reply) {
        return false;
    }
    work.reply_key = key(work, &work.former);
    work.reply_key.hook = Hook::EGRESS;
    work.former_key.tuple = work.evicted.tuple;
    let mut is_entered = put(work, forward, OUTER, ANY);
    work.reply_key = key(work, &work.evicted.tuple.reversed());
    work.former_key.tuple = work.former.reversed();
    is_entered &= put(work, reply, OUTER | Kind::REPLY, ANY);
    work.reply_key = key(work, &work.wanted);
    work.former_key.tuple = work.former;
    is_entered &= put(work, forward, INNER, ANY);
    if is_reply {
        work.flow.to = work.former.reversed();
        work.flow.kind = Kind(OUTER | Kind::REPLY);
    }
    is_entered
}

/// The key of packets with this tuple that come in.
#[inline(always)]
fn key<F: Datapath>(work: &Work<F>, tuple: &Tuple<F>) -> FlowKey<F> {
    FlowKey::new(*tuple, work.key.protocol, Hook::INGRESS)
}

/// Enters what the backend's answers become where they leave for the client, under a port of the client's that is
/// nobody else's.
#[inline(never)]
fn claim<F: Datapath>(work: &mut Work<F>, reply: *mut Flow<F>) -> bool {
    work.former_key.tuple = work.wanted.reversed();
    for attempt in 0..PORT_ATTEMPTS {
        if attempt > 0 {
            work.former.source_port = source_port();
        }
        work.reply_key = key(work, &work.former.reversed());
        work.reply_key.hook = Hook::EGRESS;
        if put(work, reply, INNER | Kind::REPLY, NEW) {
            return true;
        }
    }
    false
}

/// Enters a copy of an entry under [`Work::reply_key`], which leads where [`Work::former_key`] says, and is of another
/// kind.
#[inline(never)]
fn put<F: Datapath>(work: &mut Work<F>, entry: *mut Flow<F>, kind: u8, flags: u64) -> bool {
    // SAFETY: map memory, see `Found`.
    work.flow = unsafe { *entry };
    // Another processor may have unfolded the flow meanwhile, and the entry is recycled.
    if !work.flow.kind.is_folded() {
        return false;
    }
    work.flow.clear_way();
    (work.flow.to, work.flow.kind) = (work.former_key.tuple, Kind(kind));
    let has_place = if work.flow.is_confirmed() { OUTER } else { OUTER | Kind::REPLY };
    if kind == has_place {
        // The place is that of the other pair.
        work.flow.proof = NOWHERE;
    }
    work.flow.label(&work.reply_key);
    F::tables().flows.insert(&work.reply_key, &work.flow, flags).is_ok()
}
