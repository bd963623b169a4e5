// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clock of flows: 32 bits of the kernel's monotonic time.

use crate::pod;

/// A moment, in units of 2^26 ns (67 ms) of `CLOCK_MONOTONIC`, wrapping after nine years. One
/// shift away from what the kernel's clocks give: no division on the path of a packet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tick(pub u32);

/// Ticks in a second, rounded up, so that no time-out is shorter than it says.
pub const PER_SECOND: u32 = 15;

impl Tick {
    /// The tick of a monotonic time in nanoseconds.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the clock wraps")]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self((nanoseconds >> 26) as u32)
    }

    /// Ticks from `earlier` until now; none if another processor's clock is a little ahead.
    #[must_use]
    #[inline(always)]
    pub const fn since(self, earlier: Self) -> u32 {
        let ticks = self.0.wrapping_sub(earlier.0);
        if ticks > u32::MAX / 2 { 0 } else { ticks }
    }

    /// A byte that changes every sixteen ticks: by that, something is done about once a second (1.07 s).
    /// It comes round after four and a half minutes.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "it wraps")]
    pub const fn turn(self) -> u8 {
        (self.0 >> 4) as u8
    }
}

/// `count` seconds in ticks.
#[must_use]
#[inline(always)]
pub const fn seconds(count: u32) -> u32 {
    count * PER_SECOND
}

pod!(Tick);

#[cfg(test)]
mod tests {
    use super::{PER_SECOND, Tick};

    #[test]
    fn a_second_is_no_shorter_than_it_says() {
        assert!(Tick::from_nanoseconds(1_000_000_000).0 <= PER_SECOND);
        assert_eq!(Tick::from_nanoseconds(67_108_864), Tick(1));
    }

    #[test]
    fn the_clock_wraps_and_never_runs_backwards() {
        assert_eq!(Tick(2).since(Tick(u32::MAX)), 3);
        assert_eq!(Tick(10).since(Tick(11)), 0);
    }
}
