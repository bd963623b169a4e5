// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The node's routes.

use core::{mem, ptr};

use aya_ebpf::{
    bindings::{BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup},
    helpers::generated::bpf_fib_lookup as look_up,
    maps::lpm_trie::Key,
};
use proxy_common::{Family, Port, Protocol, clock::Tick, flow::Tuple, ways::WaysEpoch};

use crate::{family::Datapath, frame::Frame, maps::WAYS};

/// What the kernel says of where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// On by a device, to a next hop with a MAC address.
    Known,
    /// On by a device; the next hop's MAC address is not known.
    WithoutMac,
    /// Elsewhere; or it would be too long.
    None,
}

/// Both ends of a packet whose way is asked for, as the stack would see them where it chooses a route: rules, and the
/// choice among several gateways, may depend on all of it.
#[derive(Clone, Copy)]
pub(crate) struct Ends<'a, F: Family> {
    pub(crate) protocol: Protocol,
    pub(crate) source: (&'a F::Addr, Port),
    pub(crate) destination: (&'a F::Addr, Port),
}

impl<'a, F: Family> Ends<'a, F> {
    /// Those of a packet with this tuple.
    #[inline(always)]
    pub(crate) const fn of(protocol: Protocol, tuple: &'a Tuple<F>) -> Self {
        Self {
            protocol,
            source: (&tuple.source, tuple.source_port),
            destination: (&tuple.destination, tuple.destination_port),
        }
    }

    /// Those of a packet that answers.
    #[inline(always)]
    pub(crate) const fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source, ..self }
    }
}

/// Where a packet with these ends goes that has come by a device. With a length in bytes that is not
/// zero, it is asked whether the device and the route take so much. The answer is left where `route`
/// is, as the stack has no room for two.
#[inline(always)]
pub(crate) fn ask<F: Datapath>(
    context: &impl Frame,
    route: &mut bpf_fib_lookup,
    device: u32,
    ends: Ends<'_, F>,
    length: u16,
) -> Route {
    // SAFETY: all zero is a valid value of this structure of integers.
    *route = unsafe { mem::zeroed() };
    route.family = F::ADDRESS_FAMILY;
    route.ifindex = device;
    route.__bindgen_anon_1.tot_len = length;
    route.l4_protocol = ends.protocol.number();
    let (source, destination) = (ends.source, ends.destination);
    (route.sport, route.dport) = (source.1.to_wire(), destination.1.to_wire());
    F::set_route(route, source.0, destination.0);
    let size = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: both pointers are valid for the call, and the size is the structure's.
    match unsafe { look_up(context.raw(), ptr::from_mut(route), size, 0) } as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => Route::Known,
        BPF_FIB_LKUP_RET_NO_NEIGH => Route::WithoutMac,
        _ => Route::None,
    }
}

/// Whether the node's routes to a destination say that they take packets of this length, in bytes, beside what the
/// kernel says of it: it keeps the MTU of a route to itself, unless that is locked.
#[inline(always)]
pub(crate) fn takes<F: Datapath>(destination: &<F as Family>::Addr, length: u32) -> bool {
    let bits = 8 * size_of::<<F as Family>::Addr>() as u32;
    let mtu = F::tables().route_mtus.get(Key::new(bits, *destination));
    mtu.is_none_or(|mtu| length <= mtu.0)
}

/// The turn in which ways are asked for: after it, they are asked for again.
#[inline(always)]
pub(crate) fn turn(now: Tick) -> u8 {
    // SAFETY: a row of an array is never freed; its word is read whole.
    let epoch = WAYS.get_ptr(0).map_or(WaysEpoch::default(), |row| unsafe { row.read_volatile() });
    epoch.turn(now)
}
