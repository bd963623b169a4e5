// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Wires: where frames come by and leave, as drivers see it.

use proxy_common::device::{Device, Wire};

use crate::maps::{DEVICES, WIRES};

/// The index of the device of the host's stack whose frames come by a wire, and what is known of it.
#[inline(always)]
pub(crate) fn device(number: u32) -> Option<(u32, &'static Device)> {
    let wire = Wire::of_number(number);
    // SAFETY: both tables' entries are replaced, not changed, and rarely.
    unsafe {
        let index = match WIRES.get(&wire) {
            Some(index) => *index,
            None if wire.vlan == 0 => wire.device,
            None => return None,
        };
        Some((index, DEVICES.get(&index)?))
    }
}
