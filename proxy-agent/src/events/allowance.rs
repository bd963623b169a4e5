// SPDX-License-Identifier: Apache-2.0
//! How many Events about one Service there may be.

use std::num::NonZeroU32;

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};

use super::Regarding;

/// How many there may be at once (`defaultSpamBurst` of client-go's `tools/record/events_cache.go`).
const BURST: NonZeroU32 = NonZeroU32::new(25).unwrap();
/// How many more there may be in an hour (`defaultSpamQPS`, which is one every five minutes).
const REFILL: NonZeroU32 = NonZeroU32::new(12).unwrap();
/// How many Services are remembered before those are forgotten that may have a whole burst again
/// (`maxLruCacheEntries`).
const REMEMBERED: usize = 4096;

/// Which Services have had how many Events lately.
pub(super) struct Allowance<C: Clock = DefaultClock> {
    had: RateLimiter<Regarding, HashMapStateStore<Regarding>, C, NoOpMiddleware<C::Instant>>,
}

impl<C: Clock> Allowance<C> {
    pub(super) fn new(clock: C) -> Self {
        let quota = Quota::per_hour(REFILL).allow_burst(BURST);
        Self { had: RateLimiter::hashmap_with_clock(quota, clock) }
    }

    /// Whether there may be another Event about this Service, which counts as one then.
    pub(super) fn take(&self, regarding: &Regarding) -> bool {
        if self.had.len() >= REMEMBERED {
            self.had.retain_recent();
        }
        self.had.check_key(regarding).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::model::ServiceName;

    const REFILLED: Duration = Duration::from_mins(5);

    fn service(name: &str) -> Regarding {
        Regarding { service: ServiceName::new("shop", name), uid: None }
    }

    #[test]
    fn each_service_has_a_burst_and_then_one_now_and_then() {
        let clock = FakeRelativeClock::default();
        let allowance = Allowance::new(clock.clone());
        let taken = |name: &str| (0..40).filter(|_| allowance.take(&service(name))).count();
        assert_eq!(taken("till"), 25);
        assert_eq!(taken("till"), 0);
        assert_eq!(taken("shelf"), 25);
        clock.advance(REFILLED);
        assert_eq!(taken("till"), 1);
        clock.advance(REFILLED * 3);
        assert_eq!(taken("till"), 3);
    }

    #[test]
    fn services_of_long_ago_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let allowance = Allowance::new(clock.clone());
        for number in 0..REMEMBERED {
            assert!(allowance.take(&service(&number.to_string())));
        }
        clock.advance(REFILLED * 2);
        assert!(allowance.take(&service("till")));
        assert_eq!(allowance.had.len(), 1);
    }
}
