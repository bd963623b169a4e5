// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ways past the host's stack: what flows know of them is asked for again each second, and after each change that
//! the agent hears of; and what says that a next hop is still there.

use crate::{
    clock::{PER_SECOND, Tick},
    device::DeviceTraits,
    pod,
};

/// How often routes, addresses or neighbours of the node have changed, as far as the agent has heard of it. Ways
/// that were asked for before are asked for again.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaysEpoch(pub u64);

impl WaysEpoch {
    /// A byte that changes about once a second, and with each epoch: when a way was asked for. It comes round after
    /// 256 changes; no flow that has been used within the last second has a way from so long ago, unless ways
    /// change more often than that in a second.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "it wraps")]
    pub const fn turn(self, now: Tick) -> u8 {
        now.turn().wrapping_add(self.0 as u8)
    }
}

/// Rows of the table of next hops, a power of two.
pub const HOP_ROWS: u32 = 1 << 12;

/// A next hop by which the host's stack has sent a packet. What leaves from a driver leaves without the stack, which
/// would never ask whether the neighbour is still there, so some packets must take their way through it. A row that
/// another hop has taken costs the first one a detour.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// The device that leads there, by interface index.
    pub device: u32,
    /// When the stack has used it last; or a moment ahead, where the agent says that it need not.
    pub used: Tick,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The MAC address of the device.
    pub own: [u8; 6],
    /// What the device is for.
    pub traits: DeviceTraits,
    /// Always zero.
    pub reserved: u16,
}

impl Hop {
    /// The row of the next hop with this MAC address, by a device.
    #[must_use]
    #[inline(always)]
    pub const fn row(device: u32, mac: &[u8; 6]) -> u32 {
        let address = u32::from_ne_bytes([mac[2], mac[3], mac[4], mac[5]]);
        // Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4).
        (address ^ device.rotate_left(16)).wrapping_mul(0x9e37_79b1) >> (32 - HOP_ROWS.ilog2())
    }

    /// Whether this is that next hop, and the stack has used it within the last second.
    #[must_use]
    #[inline(always)]
    pub fn is_used(&self, device: u32, mac: &[u8; 6], now: Tick) -> bool {
        self.device == device && self.mac == *mac && now.since(self.used) < PER_SECOND
    }
}

pod!(WaysEpoch, Hop);

const _: () = assert!(size_of::<WaysEpoch>() == 8 && size_of::<Hop>() == 24);
const _: () = assert!(HOP_ROWS.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::{HOP_ROWS, Hop, WaysEpoch};
    use crate::clock::{PER_SECOND, Tick};

    #[test]
    fn ways_are_asked_for_again_each_second_and_in_each_epoch() {
        let turn = |epoch, tick| WaysEpoch(epoch).turn(Tick(tick));
        assert_eq!(turn(7, 32), turn(7, 47));
        assert_ne!(turn(7, 32), turn(7, 48));
        assert_ne!(turn(7, 32), turn(8, 32));
        assert_eq!(turn(255, 16), 0);
    }

    #[test]
    fn a_hop_is_known_for_a_second_by_its_device_and_address() {
        let (mac, now) = ([2, 0, 0, 0, 0, 9], Tick(u32::MAX));
        let hop = Hop { device: 3, used: now, mac, own: [0; 6], ..Hop::default() };
        assert!(hop.is_used(3, &mac, now));
        assert!(!hop.is_used(4, &mac, now) && !hop.is_used(3, &[2, 0, 0, 0, 0, 8], now));
        assert!(!hop.is_used(3, &mac, Tick(PER_SECOND - 1)));
        assert!(!Hop::default().is_used(3, &mac, now));
    }

    #[test]
    fn hops_with_like_addresses_have_rows_of_their_own() {
        let mut rows: [u32; 64] = core::array::from_fn(|last| {
            Hop::row(2, &[2, 0, 0, 0, 0, u8::try_from(last).unwrap_or_default()])
        });
        rows.sort_unstable();
        assert!(rows.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(rows[63] < HOP_ROWS);
    }
}
