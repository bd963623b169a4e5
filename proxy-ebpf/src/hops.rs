// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Next hops that the host's stack has used of late. To send by it is what makes the kernel ask a neighbour that has
//! been silent whether it is still there (RFC 4861 section 7.3): a driver may send to those alone whom the stack
//! sends something now and then.

use core::ptr;

use proxy_common::{clock::Tick, ways::Hop};

use crate::maps::HOPS;

/// The MAC address of the device that leads to a next hop, if the stack has used that within the last second.
#[inline(always)]
pub(crate) fn own_address(device: u32, mac: &[u8; 6], now: Tick) -> Option<[u8; 6]> {
    // SAFETY: a row of an array is never freed. One that is being written leads a frame to one of two hops, or to
    // nobody.
    let hop = unsafe { &*HOPS.get_ptr(Hop::row(device, mac))? };
    hop.is_used(device, mac, now).then_some(hop.own)
}

/// Takes note that the stack uses a next hop.
#[inline(always)]
pub(crate) fn note(device: u32, mac: [u8; 6], own: [u8; 6], now: Tick) {
    if let Some(row) = HOPS.get_ptr_mut(Hop::row(device, &mac)) {
        // SAFETY: as above.
        unsafe { ptr::write(row, Hop { device, used: now, mac, own, reserved: 0 }) };
    }
}
