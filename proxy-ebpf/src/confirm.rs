// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! From half-open to confirmed: a flow whose client has proven that it is there.

use proxy_common::{counter::Reason, flow::FlowKey};

use crate::{
    counter::count,
    family::Datapath,
    flow::{Found, restore_other},
    queue,
    work::Work,
};

/// Confirms the half-open flow of [`Work::key`], whose client has proven that it is there: nothing takes
/// its place any more. [`Work::flow`] has where it leads to and what kind it is of.
#[inline(always)]
pub(crate) fn confirm<F: Datapath>(work: &mut Work<F>) {
    let flows = F::tables().flows;
    let Some(entry) = flows.get_ptr_mut(&work.key) else {
        return;
    };
    let hook = work.flow.kind.reply_hook();
    work.reply_key = FlowKey::new(work.flow.to.reversed(), work.packet.protocol, hook);
    if flows.get_ptr(&work.reply_key).is_none() {
        restore_other(work, entry);
    }
    let Some(reply) = flows.get_ptr_mut(&work.reply_key) else {
        return;
    };
    let (found, reply) = (Found { entry }, Found { entry: reply });
    // Another flow may have the replies: this one ends soon.
    if reply.answers(&work.packet.tuple) && found.is(&work.key) {
        confirm_both(found, reply);
    }
}

/// Confirms a flow by its two entries, unless another processor has just done so.
#[inline(always)]
pub(crate) fn confirm_both<F: Datapath>(forward: Found<F>, reply: Found<F>) {
    let place = reply.flow().proof;
    let _: bool = reply.prove();
    if forward.prove() {
        queue::leave::<F>(place);
        count::<F>(Reason::FlowConfirmed);
    }
}
