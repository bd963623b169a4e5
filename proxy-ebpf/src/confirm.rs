// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! From half-open to confirmed: a flow whose client has proven that it is there.

use proxy_common::counter::Reason;

use crate::{
    counter::count,
    endless,
    family::Datapath,
    flow::{Found, name_replies, restore_other},
    queue,
    work::Work,
};

/// Confirms the half-open flow of [`Work::key`], whose client has proven that it is there: nothing takes
/// its place any more. [`Work::flow`] has where it leads to and what kind it is of. One that is confirmed and
/// [lacks a place](endless::lacks_place) is found one.
#[inline(always)]
pub(crate) fn confirm<F: Datapath>(work: &mut Work<F>) {
    let flows = F::tables().flows;
    let Some(entry) = flows.get_ptr_mut(&work.key) else {
        return;
    };
    name_replies(&mut work.reply_key, &work.flow.to, work.packet.protocol, work.flow.kind);
    if flows.get_ptr(&work.reply_key).is_none() {
        restore_other(work, entry);
    }
    let Some(reply) = flows.get_ptr_mut(&work.reply_key) else {
        return;
    };
    let (found, reply) = (Found { entry }, Found { entry: reply });
    // Another flow may have the replies: this one ends soon.
    if reply.answers(&work.packet.tuple) && found.is(&work.key) {
        let is_new = confirm_both(found, reply);
        endless::settle(work, found.entry, is_new);
    }
}

/// Confirms a flow by its two entries; says whether it does, and not another processor just before.
#[inline(always)]
pub(crate) fn confirm_both<F: Datapath>(forward: Found<F>, reply: Found<F>) -> bool {
    let place = reply.flow().proof;
    let _: bool = reply.prove();
    let is_new = forward.prove();
    if is_new {
        queue::leave::<F>(place);
        count::<F>(Reason::FlowConfirmed);
    }
    is_new
}
