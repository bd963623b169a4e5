// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The fast path: packets of flows go past the host's stack, to a pod's own end of its pair of devices,
//! or out of the node.
//!
//! Both directions do, or none: the client's packets from the client's device, once they have been
//! translated; the replies from where they reach the node, after what is done to them at the egress of
//! the client's device otherwise, and with the same entry. So a reply that comes by another way is
//! translated there as ever. Off by default: what netfilter does to forwarded packets is not done.

use core::{mem, ptr};

use aya_ebpf::{
    bindings::{TC_ACT_REDIRECT, bpf_fib_lookup},
    helpers::generated::{bpf_check_mtu, bpf_redirect_neigh, bpf_redirect_peer},
    programs::TcContext,
};
use proxy_common::{
    clock::Tick,
    device::DeviceTraits,
    flow::{Flow, FlowKey, Hook, Kind},
};

use crate::{
    egress,
    family::Datapath,
    flow::{Found, find},
    frame::{device, read, store},
    maps::{DEVICES, FAST_PATH},
    packet::Part,
    passing,
    route::{self, Ends, Route},
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

/// How packets of a client go on.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Past the host's stack.
    Past,
    /// Through it.
    Through,
    /// Through it, as the packet has come by a device that does not lead to its source. It may be
    /// anybody's, and says nothing of the client.
    Foreign,
}

/// Finds a way past the host's stack for the packets of [`Work::flow`], whose `to` is the backend, and
/// leaves it there. The route is asked for as if the largest packet of the client's device had come by
/// that: for what is too large somewhere, the stack has to answer. Who goes past the stack goes past its
/// reverse path filter, too, so the way back is asked for here.
#[inline(never)]
pub(crate) fn find_way<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Way {
    let flow = &mut work.flow;
    let client = device(context);
    // SAFETY: a device's entry is replaced, not changed, and rarely.
    let known = |index: u32| unsafe { DEVICES.get(index) };
    if !known(client).is_some_and(|device| device.traits.has(DeviceTraits::PAIR)) {
        return Way::Through;
    }
    let Some(client_mac) = read(context, SOURCE_MAC) else {
        return Way::Through;
    };
    let mut largest = 0_u32;
    // SAFETY: the pointer is valid for the call; the frame's own device is asked about.
    if unsafe { bpf_check_mtu(context.skb.skb.cast(), 0, &raw mut largest, 0, 0) } < 0 {
        return Way::Through;
    }
    // SAFETY: all zero is a valid value of this structure of integers.
    let mut route: bpf_fib_lookup = unsafe { mem::zeroed() };
    let to = &flow.to;
    let there = Ends::of(work.packet.protocol, to);
    let way = route::ask::<F>(context, &mut route, client, there, largest as u16);
    if way == Route::None || !route::takes::<F>(&to.destination, largest) {
        return Way::Through;
    }
    let next = route.ifindex;
    let mac = route.dmac;
    let back = route::ask::<F>(context, &mut route, next, there.reversed(), 0);
    if back == Route::None || route.ifindex != client {
        return Way::Foreign;
    }
    let Some(device) = known(next) else {
        return Way::Through;
    };
    flow.mac = [0; 6];
    if device.traits.has(DeviceTraits::PAIR) {
        if way != Route::Known {
            return Way::Through;
        }
        flow.mac = mac;
    } else if !device.traits.has(DeviceTraits::OUTSIDE) || device.mac == [0; 6] {
        return Way::Through;
    }
    (flow.device, flow.client_device, flow.client_mac) = (next, client, client_mac);
    flow.way_asked = route::turn(work.now);
    Way::Past
}

/// Whether a packet of a flow that goes past the stack may follow it as it is. Of the client's, if they
/// come by the client's device, and the way has been asked for about a second ago at most. Replies, if they
/// come by the device that leads to the backend; or, of a backend elsewhere, by any that leads out of the
/// node, as answers may.
#[inline(always)]
pub(crate) fn is_on_way<F: Datapath>(
    context: &TcContext,
    flow: &Flow<F>,
    from_outside: bool,
    now: Tick,
) -> bool {
    if !flow.kind.has(Kind::REPLY) {
        device(context) == flow.client_device && flow.way_asked == route::turn(now)
    } else if flow.mac == [0; 6] {
        from_outside
    } else {
        device(context) == flow.device
    }
}

/// Asks again for the way of a flow that goes past the stack, for a packet of the client's, and brings both
/// entries up to date. [`Work::flow`] then says how this packet goes on.
#[inline(always)]
pub(crate) fn keep_way<F: Datapath>(context: &TcContext, work: &mut Work<F>, entry: *mut Flow<F>) {
    let way = find_way(context, work);
    if way != Way::Past {
        work.flow.kind.0 &= !Kind::FAST;
    }
    let found = Found { entry };
    if way == Way::Foreign || !found.is(&work.key) {
        return;
    }
    update(work, entry);
    work.reply_key = FlowKey::new(work.flow.to.reversed(), work.packet.protocol, Hook::EGRESS);
    if let Some(replies) = find(&work.reply_key)
        && replies.answers(&work.packet.tuple)
    {
        update(work, replies.entry);
    }
}

/// Gives an entry the way of [`Work::flow`].
#[inline(always)]
fn update<F: Datapath>(work: &Work<F>, entry: *mut Flow<F>) {
    // SAFETY: map memory, see `Found`.
    let flow = unsafe { &mut *entry };
    if work.flow.kind.has(Kind::FAST) {
        (flow.device, flow.mac) = (work.flow.device, work.flow.mac);
        (flow.client_device, flow.client_mac) = (work.flow.client_device, work.flow.client_mac);
        flow.way_asked = work.flow.way_asked;
    } else {
        flow.kind.0 &= !Kind::FAST;
    }
}

/// The flow past the stack that a packet is a reply of, which has none of its own at ingress;
/// then the key is the reply's.
#[inline(always)]
pub(crate) fn find_reply<F: Datapath>(key: &mut FlowKey<F>) -> Option<*mut Flow<F>> {
    const FAST: u8 = Kind::FAST | Kind::REPLY;
    key.hook = Hook::EGRESS;
    let entry = F::tables().flows.get_ptr_mut(&*key);
    let is_fast = |entry: &*mut Flow<F>| Found { entry: *entry }.flow().kind.0 & FAST == FAST;
    let entry = entry.filter(is_fast);
    if entry.is_none() {
        key.hook = Hook::INGRESS;
    }
    entry
}

/// Whether a packet that belongs to no flow at ingress may be a reply of one past the stack that
/// [`find_reply`] was not asked about or does not find. [`Work::key`] is its key there.
#[inline(always)]
pub(crate) fn is_reply<F: Datapath>(work: &mut Work<F>) -> bool {
    if !is_on() {
        return false;
    }
    work.key.hook = Hook::EGRESS;
    let is_reply = find(&work.key).is_some();
    work.key.hook = Hook::INGRESS;
    is_reply
}

/// Takes replies of a new flow past the stack out of the cache of what is nothing of ours, at the device
/// where they reach the node. [`Work::reply_key`] is theirs at the client's.
#[inline(always)]
pub(crate) fn expect_replies<F: Datapath>(work: &mut Work<F>) {
    work.reply_key.hook = Hook::INGRESS;
    passing::forget::<F>(work.reply_key.tag());
    work.reply_key.hook = Hook::EGRESS;
}

/// The device and the MAC address by which packets of a flow past the stack go on.
#[inline(always)]
pub(crate) fn next<F: Datapath>(flow: &Flow<F>) -> (u32, [u8; 6]) {
    if flow.kind.has(Kind::REPLY) {
        (flow.client_device, flow.client_mac)
    } else {
        (flow.device, flow.mac)
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
/// stack. Not fragments: the stack puts them together, and would wait for the first one.
#[inline(never)]
pub(crate) fn restore<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Reply {
    if work.packet.part != Part::WHOLE {
        return Reply::None;
    }
    work.key.hook = Hook::EGRESS;
    let reply = match find(&work.key) {
        Some(found) => restore_found(context, work, found),
        None => Reply::None,
    };
    work.key.hook = Hook::INGRESS;
    reply
}

#[inline(always)]
fn restore_found<F: Datapath>(context: &TcContext, work: &mut Work<F>, found: Found<F>) -> Reply {
    let flow = found.flow();
    let from_outside = work.outside != 0 && work.packet.has_link_header();
    if !flow.kind.has(Kind::FAST)
        || !flow.kind.has(Kind::REPLY)
        || !is_on_way(context, flow, from_outside, work.now)
    {
        return Reply::None;
    }
    let (device, mac) = next(flow);
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
