// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The node's routes.

use core::{mem, ptr};

use aya_ebpf::{
    bindings::{BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup},
    helpers::generated::bpf_fib_lookup as look_up,
    programs::TcContext,
};
use proxy_common::Family;

use crate::family::Datapath;

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

/// Where a packet with these addresses goes that has come by a device. With a length in bytes that is not
/// zero, it is asked whether the device and the route take so much. The answer is left where `route`
/// is, as the stack has no room for two.
#[inline(always)]
pub(crate) fn ask<F: Datapath>(
    context: &TcContext,
    route: &mut bpf_fib_lookup,
    device: u32,
    addresses: [&<F as Family>::Addr; 2],
    length: u16,
) -> Route {
    // SAFETY: all zero is a valid value of this structure of integers.
    *route = unsafe { mem::zeroed() };
    route.family = F::ADDRESS_FAMILY;
    route.ifindex = device;
    route.__bindgen_anon_1.tot_len = length;
    let [source, destination] = addresses;
    F::set_route(route, source, destination);
    let size = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: both pointers are valid for the call, and the size is the structure's.
    match unsafe { look_up(context.skb.skb.cast(), ptr::from_mut(route), size, 0) } as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => Route::Known,
        BPF_FIB_LKUP_RET_NO_NEIGH => Route::WithoutMac,
        _ => Route::None,
    }
}
