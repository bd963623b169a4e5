// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The entries of a new flow: the tuple of its replies is claimed, then the flow is entered.

use aya_ebpf::bindings::BPF_ANY;
use proxy_common::flow::{FlowKey, Hook};

use crate::{
    family::Datapath,
    flow::{Found, NEW, find},
    work::Work,
};

/// Insert or replace.
const ANY: u64 = BPF_ANY as u64;

/// Takes [`Work::reply_key`] for the replies of a new flow, with [`Work::flow`] as its entry. It
/// is taken if a flow that goes on has it, unless that is the very flow, left over or being opened
/// elsewhere: then the entries are the same. A connection that has been closed gives it up, as a
/// socket in `TIME_WAIT` does for a new SYN.
#[inline(never)]
pub(crate) fn claim<F: Datapath>(work: &mut Work<F>) -> bool {
    let tables = F::tables();
    work.former = work.flow.to;
    if let Some(entry) = tables.flows.get_ptr_mut(&work.reply_key) {
        let found = Found { entry, confirmed: true };
        work.former = found.flow().to;
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
    let forward = FlowKey::new(work.former.reversed(), work.reply_key.protocol, Hook::INGRESS);
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
pub(crate) fn enter<F: Datapath>(work: &mut Work<F>) -> bool {
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
