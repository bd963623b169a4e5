// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! From half-open to confirmed: a flow whose client has proven that it is there.

use core::ptr;

use proxy_common::{
    counter::Reason,
    flow::{FlowKey, Kind},
};

use crate::{
    counter::count,
    family::Datapath,
    flow::{Found, NEW},
    work::Work,
};

/// Makes the half-open flow of [`Work::key`] a confirmed one. If there is no room it goes on half-open.
/// [`Work::flow`] has where it leads to and what kind it is of, and still has afterwards.
#[inline(always)]
pub(crate) fn confirm<F: Datapath>(work: &mut Work<F>) {
    let tables = F::tables();
    let Some(entry) = tables.half_open.get_ptr_mut(&work.key) else {
        return;
    };
    (work.wanted, work.wanted_kind) = (work.flow.to, work.flow.kind);
    // From memory to memory: by value it would all lie on the stack at once.
    // SAFETY: map memory, see `Found`; the working memory is none of a table's entries.
    unsafe { ptr::copy_nonoverlapping(entry, &raw mut work.flow, 1) };
    if !(Found { entry, confirmed: false }).is(&work.key) {
        work.flow.to = work.wanted;
        // The way past the stack that is there now is another flow's.
        work.flow.kind = Kind(work.wanted_kind.0 & !Kind::FAST);
        return;
    }
    work.reply_key =
        FlowKey::new(work.wanted.reversed(), work.packet.protocol, work.flow.kind.reply_hook());
    work.flow.label(&work.reply_key);
    work.flow.to = work.packet.tuple.reversed();
    work.flow.kind.0 |= Kind::REPLY;
    // Another processor may be doing the same for a retransmission: then this entry is there
    // already, and is the same. The reply entry comes first: it is the one that can be another
    // flow's.
    let mine = tables.flows.insert(&work.reply_key, &work.flow, NEW).is_ok();
    let same = tables
        .flows
        .get_ptr_mut(&work.reply_key)
        .is_some_and(|entry| Found { entry, confirmed: true }.answers(&work.packet.tuple));
    work.flow.label(&work.key);
    work.flow.to = work.wanted;
    work.flow.kind.0 &= !Kind::REPLY;
    if same && tables.flows.insert(&work.key, &work.flow, NEW).is_ok() {
        count::<F>(Reason::FlowConfirmed);
        leave_half_open(work);
    } else if tables.flows.get_ptr(&work.key).is_none() {
        if mine {
            let _: Result<(), i32> = tables.flows.remove(&work.reply_key);
        }
        count::<F>(Reason::FlowTableFull);
    }
}

/// Takes the entries of a flow that has been confirmed out of the half-open table. The next flows get
/// their places, which are in the processor's cache; left alone, each flow would get the place that
/// nobody has touched for longest.
#[inline(always)]
fn leave_half_open<F: Datapath>(work: &Work<F>) {
    let half_open = F::tables().half_open;
    let _: Result<(), i32> = half_open.remove(&work.key);
    let ours = |entry| Found { entry, confirmed: false }.answers(&work.packet.tuple);
    if half_open.get_ptr_mut(&work.reply_key).is_some_and(ours) {
        let _: Result<(), i32> = half_open.remove(&work.reply_key);
    }
}
