// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The fast path: packets of flows go past the host's stack, to a pod's own end of its pair of devices,
//! or out of the node.
//!
//! Both directions do, or none: the client's packets from the client's device, once they have been
//! translated; the replies from where they reach the node, after what is done to them at the egress of
//! the client's device otherwise, and with the same entry. So a reply that comes by another way is
//! translated there as ever. Off by default: what netfilter does to forwarded packets is not done.

use core::ptr;

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, TC_ACT_REDIRECT, bpf_fib_lookup,
    },
    helpers::generated::{
        bpf_check_mtu, bpf_fib_lookup as look_up_route, bpf_redirect_neigh, bpf_redirect_peer,
    },
    programs::TcContext,
};
use proxy_common::{
    device::DeviceTraits,
    flow::{Flow, Hook, Kind},
};

use crate::{
    egress,
    family::Datapath,
    flow::{Found, find},
    frame::{device, read, store},
    maps::{DEVICES, FAST_PATH},
    verdict::Verdict,
    work::Work,
};

/// Where the source's MAC address is in an Ethernet header.
const SOURCE_MAC: usize = 6;

/// Whether there is a fast path.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    FAST_PATH.load() != 0
}

/// Finds a way past the host's stack for the packets of [`Work::flow`], whose `to` is the backend, and
/// leaves it there. The route is asked for as if the largest packet of the client's device had come by
/// that: for what is too large somewhere, the stack has to answer.
#[inline(never)]
pub(crate) fn find_way<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> bool {
    let flow = &mut work.flow;
    let client = device(context);
    // SAFETY: a device's entry is replaced, not changed, and rarely.
    let known = |index: u32| unsafe { DEVICES.get(index) };
    if !known(client).is_some_and(|device| device.traits.has(DeviceTraits::PAIR)) {
        return false;
    }
    let Some(client_mac) = read(context, SOURCE_MAC) else {
        return false;
    };
    let mut largest = 0_u32;
    // SAFETY: the pointer is valid for the call; the frame's own device is asked about.
    if unsafe { bpf_check_mtu(context.skb.skb.cast(), 0, &raw mut largest, 0, 0) } < 0 {
        return false;
    }
    // SAFETY: all zero is a valid value of this structure of integers.
    let mut route: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    route.family = F::ADDRESS_FAMILY;
    route.ifindex = client;
    route.__bindgen_anon_1.tot_len = largest as u16;
    F::set_route(&mut route, &flow.to.source, &flow.to.destination);
    let size = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: both pointers are valid for the call, and the size is the structure's.
    let result = unsafe { look_up_route(context.skb.skb.cast(), &raw mut route, size, 0) };
    let is_known = result == i64::from(BPF_FIB_LKUP_RET_SUCCESS);
    if !is_known && result != i64::from(BPF_FIB_LKUP_RET_NO_NEIGH) {
        return false;
    }
    flow.mac = [0; 6];
    let Some(device) = known(route.ifindex) else {
        return false;
    };
    if device.traits.has(DeviceTraits::PAIR) {
        if !is_known {
            return false;
        }
        flow.mac = route.dmac;
    } else if !device.traits.has(DeviceTraits::OUTSIDE) || device.mac == [0; 6] {
        return false;
    }
    flow.device = route.ifindex;
    (flow.client_device, flow.client_mac) = (client, client_mac);
    true
}

/// Whether a flow that goes past the stack still has a way; if so, it is up to date. Asked once a second.
#[inline(always)]
pub(crate) fn keep_way<F: Datapath>(
    context: &TcContext,
    work: &mut Work<F>,
    entry: *mut Flow<F>,
    confirmed: bool,
) {
    let has_way = find_way(context, work);
    if !(Found { entry, confirmed }).is(&work.key) {
        return;
    }
    // SAFETY: map memory, see `Found`.
    let flow = unsafe { &mut *entry };
    if has_way {
        (flow.device, flow.mac) = (work.flow.device, work.flow.mac);
        return;
    }
    flow.kind.0 &= !Kind::FAST;
    work.flow.kind.0 &= !Kind::FAST;
    let tables = F::tables();
    let replies = if confirmed {
        tables.flows.get_ptr_mut(&work.reply_key)
    } else {
        tables.half_open.get_ptr_mut(&work.reply_key)
    };
    if let Some(entry) = replies
        && (Found { entry, confirmed }).answers(&work.packet.tuple)
    {
        // SAFETY: as above.
        unsafe { (*entry).kind.0 &= !Kind::FAST };
    }
}

/// What a packet that belongs to no flow at ingress is.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A reply of a flow that goes past the stack, and translated. Where it goes is in [`Work::flow`].
    Restored,
    /// One that could not be translated; this has been counted.
    Lost,
    /// None.
    None,
}

/// Translates a packet that belongs to no flow at ingress, if it is a reply of a flow that goes past the
/// stack.
#[inline(never)]
pub(crate) fn restore<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Reply {
    work.key.hook = Hook::EGRESS;
    let reply = match find(&work.key) {
        Some(found) => restore_found(context, work, &found),
        None => Reply::None,
    };
    work.key.hook = Hook::INGRESS;
    reply
}

#[inline(always)]
fn restore_found<F: Datapath>(context: &TcContext, work: &mut Work<F>, found: &Found<F>) -> Reply {
    let flow = found.flow();
    if !flow.kind.has(Kind::FAST) || !flow.kind.has(Kind::REPLY) {
        return Reply::None;
    }
    let (device, mac) = (flow.client_device, flow.client_mac);
    work.confirmed = u8::from(found.confirmed);
    let reply = match egress::restore(context, work, found) {
        Some(Verdict::Pass) => Reply::Restored,
        Some(_) => Reply::Lost,
        None => Reply::None,
    };
    (work.flow.device, work.flow.mac) = (device, mac);
    reply
}

/// Sends a translated packet on, by a device: to the other end, which has this MAC address, or, without
/// one, to the next hop that the node's routes name. Says whether it could.
#[inline(always)]
pub(crate) fn send(context: &TcContext, device: u32, mac: &[u8; 6]) -> bool {
    let action = if *mac == [0; 6] {
        // SAFETY: without parameters, the helper looks the next hop up.
        unsafe { bpf_redirect_neigh(device, ptr::null_mut(), 0, 0) }
    } else {
        if store(context, 0, mac, 0).is_err() {
            return false;
        }
        // SAFETY: the helper takes integers.
        unsafe { bpf_redirect_peer(device, 0) }
    };
    action == i64::from(TC_ACT_REDIRECT)
}
