// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Packets of folded flows: one look-up, one rewrite.

use aya_ebpf::programs::XdpContext;
use proxy_common::{
    clock::Tick,
    counter::Reason,
    device::Wire,
    flow::{Flow, FlowKey, Hook},
};

use super::{open, send::send, up};
use crate::{
    brief,
    family::Datapath,
    flow::{self, Found},
    frame::{Frame, is_to},
    known, route,
    work::Work,
};

/// What [`follow`] says beside the kernel's actions: the packet may open a flow, or has something to tell of its own.
/// [`Work::key`] is its key.
pub(super) const MAY_OPEN: u32 = 16;
pub(super) const HAS_TO_TELL: u32 = 17;

/// Translates a packet of a known flow and sends it on, if there is nothing else to do about it. A function of its
/// own, as its stack is.
#[inline(never)]
pub(super) fn follow<F: Datapath>(context: &XdpContext, network: usize, vlan: u16) -> u32 {
    let came_by = Wire::new(context.device(), vlan).number();
    let Some((key, flags)) = brief::key::<F>(context, network, Hook::INGRESS) else {
        return up::<F>(Reason::XdpUpUnusual);
    };
    let Some(entry) = F::tables().flows.get_ptr_mut(&key) else {
        return match open::may_open::<F>(&key, flags) {
            None => leave_to(MAY_OPEN, &key, came_by, flags),
            Some(reason) => up::<F>(reason),
        };
    };
    let found = Found { entry };
    let flow = found.flow();
    if !flow.kind.is_folded() {
        return up::<F>(Reason::XdpUpFlow);
    }
    if flags != 0 || !is_on_way(context, flow, came_by, flow::now()) || !known::goes_on(flow, &key)
    {
        return leave_to(HAS_TO_TELL, &key, came_by, flags);
    }
    let (to, next, mac) = (flow.to, flow.device, flow.mac);
    let (kind, service) = (flow.kind, flow.service);
    if !found.is(&key) {
        return up::<F>(Reason::XdpUpFlow);
    }
    send(context, network, &key, (&to, kind, service), (next, &mac))
}

/// Leaves a packet to what goes on with it.
#[inline(always)]
fn leave_to<F: Datapath>(step: u32, key: &FlowKey<F>, came_by: u32, flags: u8) -> u32 {
    let Some(work) = Work::<F>::get() else {
        return up::<F>(Reason::XdpUpFlow);
    };
    (work.key, work.came_by, work.flags) = (*key, came_by, flags);
    step
}

/// Whether the way of an entry is that of a frame, and has been asked for of late. By the device's own MAC address:
/// a frame for somebody else is none of ours.
#[inline(always)]
pub(super) fn is_on_way<F: Datapath>(
    context: &XdpContext,
    flow: &Flow<F>,
    came_by: u32,
    now: Tick,
) -> bool {
    flow.way_asked == route::turn(now)
        && flow.client_device == came_by
        && is_to(context, &flow.client_mac)
}
