// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cache of connections that are nothing of the proxy's. Programs alone use it, and the agent ends
//! its epochs.

use crate::{
    clock::{PER_SECOND, Tick},
    pod,
};

/// Rows of a family's cache, a power of two.
pub const PASSING_ROWS: u32 = 1 << 18;

/// How often the frontends of a family, or its Service CIDRs, have become more. What was remembered before is worth nothing.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch(pub u64);

/// A row: one word, read and written whole. All zero if there is nothing.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passing(u64);

#[expect(clippy::cast_possible_truncation, reason = "parts of the word")]
impl Passing {
    /// No connection.
    pub const NOBODY: Self = Self(0);

    /// The packets whose flow entries would have this tag, looked up at `now` and in this epoch; at a
    /// device that leads out of the node, or at one of the node's own.
    #[must_use]
    #[inline(always)]
    pub const fn new(tag: u32, epoch: Epoch, now: Tick, outside: bool) -> Self {
        let epoch = (epoch.0 & 0x7fff) << 17;
        Self((tag as u64) << 32 | epoch | (outside as u64) << 16 | (now.0 & 0xffff) as u64)
    }

    /// Whether this is about packets with this tag.
    #[must_use]
    #[inline(always)]
    pub const fn is_of(self, tag: u32) -> bool {
        self.0 >> 32 == tag as u64
    }

    /// Whether this was so at such a device.
    #[must_use]
    #[inline(always)]
    pub const fn is_at(self, outside: bool) -> bool {
        (self.0 >> 16) & 1 == outside as u64
    }

    /// Whether this still holds. Within a second, ticks and epochs are told apart by half of their
    /// bits.
    #[must_use]
    #[inline(always)]
    pub const fn holds(self, epoch: Epoch, now: Tick) -> bool {
        let age = (now.0 as u16).wrapping_sub(self.0 as u16);
        (self.0 >> 17) & 0x7fff == epoch.0 & 0x7fff && (age as u32) < PER_SECOND
    }
}

pod!(Epoch, Passing);

const _: () = assert!(size_of::<Passing>() == 8 && size_of::<Epoch>() == 8);
const _: () = assert!(PASSING_ROWS.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::{Epoch, Passing};
    use crate::clock::{PER_SECOND, Tick};

    #[test]
    fn a_row_holds_for_its_tag_epoch_and_kind_of_device_and_a_second() {
        let (tag, epoch, now) = (0xdead_beef, Epoch(0x1_fffe), Tick(0xffff_fffe));
        let row = Passing::new(tag, epoch, now, true);
        assert!(row.is_of(tag) && !row.is_of(tag + 1));
        assert!(row.holds(epoch, now));
        assert!(row.holds(epoch, Tick(now.0.wrapping_add(PER_SECOND - 1))));
        assert!(!row.holds(epoch, Tick(now.0.wrapping_add(PER_SECOND))));
        assert!(!row.holds(Epoch(epoch.0 + 1), now));
        assert!(row.is_at(true) && !row.is_at(false));
    }
}
