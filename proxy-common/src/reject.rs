// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The budget of refusals (RSTs and ICMP errors that the programs send).

use crate::{clock::Tick, pod};

/// Refusals that a processor may send at once.
pub const BURST: u32 = 1_024;
/// Refusals that a processor may send per [`Tick`]: about 950 a second, Linux's default for
/// ICMP errors (`net.ipv4.icmp_msgs_per_sec`).
pub const PER_TICK: u32 = 64;

/// One processor's budget: a token bucket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// When tokens were last added.
    pub filled: Tick,
    /// Tokens left.
    pub tokens: u32,
}

impl Budget {
    /// Takes a token, if there is one at `now`.
    #[must_use]
    #[inline(always)]
    pub fn take(&mut self, now: Tick) -> bool {
        let ticks = now.since(self.filled);
        if ticks > 0 {
            self.filled = now;
            // A bucket is full after this many ticks; more would overflow the product.
            let earned = if ticks > BURST / PER_TICK { BURST } else { ticks * PER_TICK };
            let tokens = self.tokens + earned;
            self.tokens = if tokens > BURST { BURST } else { tokens };
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

pod!(Budget);

const _: () = assert!(size_of::<Budget>() == 8);

#[cfg(test)]
mod tests {
    use super::{BURST, Budget, PER_TICK};
    use crate::clock::Tick;

    #[test]
    fn a_budget_is_spent_and_earned() {
        let mut budget = Budget::default();
        let start = Tick(1_000_000);
        for _ in 0..BURST {
            assert!(budget.take(start));
        }
        assert!(!budget.take(start));
        for _ in 0..PER_TICK {
            assert!(budget.take(Tick(start.0 + 1)));
        }
        assert!(!budget.take(Tick(start.0 + 1)));
    }
}
