// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Next hops that the host's stack has used of late. To send by it is what makes the kernel ask a neighbour that has
//! been silent whether it is still there (RFC 4861 section 7.3): a driver may send to those alone whom the stack
//! sends something now and then, or of whom the agent knows that the kernel would not ask either.

use core::ptr;

use proxy_common::{clock::Tick, device::Device, ways::Hop};

use crate::maps::HOPS;

/// A next hop, if the stack has used it within the last second, or the agent vouches for it.
#[inline(always)]
pub(crate) fn used(device: u32, mac: &[u8; 6], now: Tick) -> Option<&'static Hop> {
    // SAFETY: a row of an array is never freed. One that is being written leads a frame to one of two hops, or to
    // nobody.
    let hop = unsafe { &*HOPS.get_ptr(Hop::row(device, mac))? };
    hop.is_used(device, mac, now).then_some(hop)
}

/// Takes note that the stack uses a next hop.
#[inline(always)]
pub(crate) fn note(next: &Device, mac: [u8; 6], now: Tick) {
    let (device, own, traits) = (next.wire, next.mac, next.traits);
    if let Some(row) = HOPS.get_ptr_mut(Hop::row(device, &mac)) {
        // SAFETY: as above.
        let hop = unsafe { &*row };
        // What the agent says holds for longer.
        if hop.is_used(device, &mac, now) && now.since(hop.used) == 0 {
            return;
        }
        // SAFETY: as above.
        unsafe { ptr::write(row, Hop { device, used: now, mac, own, traits, reserved: 0 }) };
    }
}
