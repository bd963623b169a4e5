// SPDX-License-Identifier: Apache-2.0
//! How long to wait after a failure.

use std::time::{Duration, Instant};

use super::Timing;

/// Pauses that double, with as much again by chance, so that thousands of nodes that failed
/// together do not come again together.
#[derive(Debug)]
pub(super) struct Pauses {
    first: Duration,
    longest: Duration,
    reset: Duration,
    next: Duration,
    last: Option<Instant>,
    last_short: Option<Instant>,
}

impl Pauses {
    pub(super) const fn new(timing: &Timing) -> Self {
        Self {
            first: timing.first_pause,
            longest: timing.longest_pause,
            reset: timing.reset_pauses,
            next: timing.first_pause,
            last: None,
            last_short: None,
        }
    }

    /// The pause after a failure at this time.
    pub(super) fn next(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.duration_since(last) > self.next + self.reset) {
            self.next = self.first;
        }
        self.last = Some(now);
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.longest);
        pause.mul_f64(1.0 + fastrand::f64())
    }

    /// A pause as after the first failure, for which those after it do not become longer.
    pub(super) fn shortest(&self) -> Duration {
        self.first.mul_f64(1.0 + fastrand::f64())
    }

    /// What was wrong is right again: pauses begin anew.
    pub(super) const fn reset(&mut self) {
        self.next = self.first;
    }

    /// A short pause, of chance alone, where nothing is wrong but many may come at once. If these
    /// come one after the other something is wrong: they are as long as the first pause then.
    pub(super) fn short(&mut self, now: Instant) -> Duration {
        let before = self.last_short.replace(now);
        let soon = before.is_some_and(|before| now.duration_since(before) < self.first * 2);
        self.first.mul_f64(if soon { 1.0 + fastrand::f64() } else { fastrand::f64() / 4.0 })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Pauses, Timing};

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_quiet() {
        let timing = Timing::default();
        let mut pauses = Pauses::new(&timing);
        let mut now = Instant::now();
        for expected in [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0] {
            let pause = pauses.next(now).as_secs_f64();
            assert!((expected..=expected * 2.0).contains(&pause), "{pause} for {expected}");
            now += Duration::from_secs_f64(pause);
        }
        now += Duration::from_mins(4);
        assert!(pauses.next(now).as_secs_f64() <= 1.6);
        let _: Duration = pauses.next(now);
        pauses.reset();
        assert!(pauses.next(now).as_secs_f64() <= 1.6);
    }

    #[test]
    fn short_pauses_are_short_unless_they_follow_each_other() {
        let mut pauses = Pauses::new(&Timing::default());
        let mut now = Instant::now();
        assert!(pauses.short(now).as_millis() <= 200);
        for _ in 0..9 {
            now += Duration::from_secs(1);
            assert!(pauses.short(now).as_millis() >= 800);
        }
        now += Duration::from_secs(2);
        assert!(pauses.short(now).as_millis() <= 200);
    }

    #[test]
    fn nodes_do_not_come_together() {
        let timing = Timing::default();
        let now = Instant::now();
        let pauses: std::collections::BTreeSet<_> =
            (0..1000).map(|_| Pauses::new(&timing).next(now)).collect();
        let (Some(first), Some(last)) = (pauses.first(), pauses.last()) else { panic!() };
        assert!(last.abs_diff(*first) > Duration::from_millis(600), "{first:?} to {last:?}");
    }
}
