// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Folded flows: of clients outside, to backends elsewhere, where a program in the uplink's driver has a hand in
//! them ([`xdp`](crate::xdp)). Both translations are made at once, at the ingress of the uplink by which a packet
//! comes, and it leaves past the host's stack: from the driver, or from here, by the kernel's own way of using a
//! neighbour. The driver and the stack share the flows, whose packets may take either way at any time.

use core::mem;

use aya_ebpf::{
    bindings::{TC_ACT_REDIRECT, bpf_fib_lookup, bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1},
    helpers::generated::{bpf_check_mtu, bpf_redirect_neigh},
    programs::TcContext,
};
use proxy_common::{
    Address as _, Protocol,
    device::{Device, DeviceTraits, Wire},
    flow::{Flow, FlowKey, Kind},
};

use crate::{
    family::Datapath,
    flow::Found,
    frame::{Frame, device, read},
    hops,
    maps::DEVICES,
    masquerade,
    route::{self, Ends, Route},
    wire,
    work::Work,
};

/// The kinds of a flow that may be folded.
const FOLDABLE: u8 = Kind::OUTSIDE | Kind::MASQUERADE;

/// Makes [`Work::flow`], a new one of this kind that is complete but for that, a folded flow if it can be one.
/// Otherwise it is left as it is, without a way.
#[inline(never)]
pub(crate) fn make<F: Datapath, C: Frame>(
    context: &C,
    work: &mut Work<F>,
    network: usize,
    kind: u8,
) -> u8 {
    let can_be = kind == FOLDABLE
        && work.key.protocol != Protocol::SCTP
        && F::time_to_live(context, network) > 1
        // By which link, no route says.
        && !work.key.tuple.source.is_link_local();
    if !can_be || find_way(context, work) == Route::None {
        work.flow.clear_way();
        return kind;
    }
    // SAFETY: written once per device; a torn read would need two changes at once.
    let Some(host) = (unsafe { F::tables().host_addresses.get(&work.next) }) else {
        work.flow.clear_way();
        return kind;
    };
    work.flow.to.source = *host;
    // The replies' entry is made of the same, and theirs is another way: it is asked for when the first comes.
    work.flow.doubt_way();
    Kind::OUTSIDE | Kind::FAST
}

/// Finds the way of a frame of a folded flow that has come by [`Work::came_by`], and whose key is [`Work::key`], to
/// where [`Work::flow`] leads, and leaves it there: out of the node by a device whose driver has a program, too. The
/// route is asked for as if the largest packet of the frame's device had come by that: for what is too large
/// somewhere, the stack has to answer. And as this goes past the stack's check of where packets come from, there must
/// be a way back: to an address that is the node's own, there is none.
#[inline(never)]
pub(crate) fn find_way<F: Datapath, C: Frame>(context: &C, work: &mut Work<F>) -> Route {
    let Some(own) = read::<[u8; 6], _>(context, 0) else {
        return Route::None;
    };
    let Some((by, device)) = wire::device(work.came_by).filter(|(_, device)| device.mac == own)
    else {
        return Route::None;
    };
    let mut largest = 0_u32;
    // SAFETY: the pointers are valid for the call.
    if unsafe { bpf_check_mtu(context.raw(), by, &raw mut largest, 0, 0) } < 0 {
        return Route::None;
    }
    // SAFETY: all zero is a valid value of this structure of integers.
    let mut route: bpf_fib_lookup = unsafe { mem::zeroed() };
    let there = ends(&work.key, &work.flow);
    let way = route::ask::<F>(context, &mut route, by, there, largest as u16);
    // SAFETY: a device's entry is replaced, not changed, and rarely.
    let next =
        unsafe { DEVICES.get(&route.ifindex) }.filter(|next| leads(work.came_by, device, next));
    let (Route::Known | Route::WithoutMac, Some(next)) = (way, next) else {
        return Route::None;
    };
    if !route::takes::<F>(&work.flow.to.destination, largest) {
        return Route::None;
    }
    work.next = route.ifindex;
    work.hop = next_hop(&route);
    let flow = &mut work.flow;
    flow.device = next.wire;
    flow.mac = if way == Route::Known { route.dmac } else { [0; 6] };
    (flow.client_device, flow.client_mac) = (work.came_by, own);
    flow.way_asked = route::turn(work.now);
    let back = ends(&work.key, flow).reversed();
    match route::ask::<F>(context, &mut route, work.next, back, 0) {
        Route::Known | Route::WithoutMac => way,
        Route::None => Route::None,
    }
}

/// Both ends of a packet with this key, between the two translations.
#[inline(always)]
const fn ends<'a, F: Datapath>(key: &'a FlowKey<F>, flow: &'a Flow<F>) -> Ends<'a, F> {
    Ends {
        protocol: key.protocol,
        source: (&key.tuple.source, key.tuple.source_port),
        destination: (&flow.to.destination, flow.to.destination_port),
    }
}

/// The next hop that a look-up has found, which is the destination itself if that is on the link, as those who send
/// to it name it. An IPv4 packet may go by an IPv6 router (RFC 5549).
#[inline(always)]
fn next_hop(route: &bpf_fib_lookup) -> bpf_redir_neigh {
    // SAFETY: the kernel leaves the address at the beginning, in network order, and the rest was zero.
    let address = unsafe { route.__bindgen_anon_4.ipv6_dst };
    bpf_redir_neigh {
        nh_family: u32::from(route.family),
        __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: address },
    }
}

/// Whether what comes by a wire, in the driver of a device, can leave by another device.
#[inline(always)]
fn leads(came_by: u32, by: &Device, next: &Device) -> bool {
    let is_native = |device: &Device| !device.traits.has(DeviceTraits::XDP_GENERIC);
    let is_own = || Wire::of_number(next.wire).device == Wire::of_number(came_by).device;
    by.traits.has(DeviceTraits::XDP)
        && next.traits.has(DeviceTraits::OUTSIDE)
        && next.traits.has(DeviceTraits::XDP)
        && (is_native(next) || !is_native(by))
        && (!next.traits.has(DeviceTraits::XDP_OWN_FRAMES) || is_own())
}

/// Has an entry know the way of [`Work::flow`]. Another processor may read half of it: with a device and a MAC address
/// that do not belong together, the driver knows of no next hop.
#[inline(always)]
pub(crate) fn keep_way<F: Datapath>(work: &Work<F>, entry: *mut Flow<F>) {
    if (Found { entry }).is(&work.key) {
        // SAFETY: map memory, see `Found`.
        let flow = unsafe { &mut *entry };
        (flow.device, flow.mac) = (work.flow.device, work.flow.mac);
        (flow.client_device, flow.client_mac) = (work.flow.client_device, work.flow.client_mac);
        flow.way_asked = work.flow.way_asked;
    }
}

/// By which wire frames of a device of the stack come.
#[inline(always)]
pub(crate) fn came_by(context: &TcContext) -> u32 {
    // SAFETY: a device's entry is replaced, not changed, and rarely.
    unsafe { DEVICES.get(&device(context)) }.map_or(0, |device| device.wire)
}

/// What becomes of a packet of a folded flow in the stack.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Folded {
    /// It leaves by the way of [`Work::flow`].
    Leaves,
    /// There is no such way for it any more.
    Lost,
}

/// Finds the way of the packet at hand, of a flow with this entry, and takes note of it for the driver.
#[inline(never)]
pub(crate) fn go_on<F: Datapath>(
    context: &TcContext,
    work: &mut Work<F>,
    entry: *mut Flow<F>,
) -> Folded {
    work.came_by = came_by(context);
    let is_last_hop = F::time_to_live(context, work.packet.network()) <= 1;
    if is_last_hop || find_way(context, work) == Route::None {
        return Folded::Lost;
    }
    if work.packet.opens_flow() && has_moved(work) {
        return Folded::Lost;
    }
    keep_way(work, entry);
    note_hop(work);
    Folded::Leaves
}

/// Takes note that the packet at hand uses the next hop of [`Work::flow`].
#[inline(always)]
pub(crate) fn note_hop<F: Datapath>(work: &Work<F>) {
    let flow = &work.flow;
    // SAFETY: a device's entry is replaced, not changed, and rarely.
    let next = unsafe { DEVICES.get(&work.next) };
    if let Some(next) = next.filter(|_| flow.mac != [0; 6]) {
        hops::note(next, flow.mac, work.now);
    }
}

/// Whether the node has another address where the way of [`Work::flow`] leaves than the flow has. A connection cannot
/// follow; datagrams, and a new SYN, can: the stack gives them another source, and leaves them their backend.
#[inline(always)]
pub(crate) fn has_moved<F: Datapath>(work: &Work<F>) -> bool {
    let flow = &work.flow;
    !flow.kind.has(Kind::REPLY) && masquerade::is_other_address::<F>(work.next, &flow.to.source)
}

/// Sends a translated packet of a folded flow on, by the next hop that was found for it. Says whether it could. It must
/// be this one: another look-up would not know by which device the packet has come, and the driver trusts that the
/// kernel asks this neighbour whether it is there.
#[inline(always)]
pub(crate) fn send<F: Datapath>(work: &mut Work<F>) -> bool {
    let size = size_of::<bpf_redir_neigh>() as i32;
    // SAFETY: the pointer is valid for the call, and the size is the structure's.
    let action = unsafe { bpf_redirect_neigh(work.next, &raw mut work.hop, size, 0) };
    action == i64::from(TC_ACT_REDIRECT)
}
