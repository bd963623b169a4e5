// SPDX-License-Identifier: Apache-2.0
//! Which Services are to be looked at, and when.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    time::Duration,
};

use crate::{backoff, model::ServiceName};

/// What is pending. Times are on one clock that never goes back.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// To be looked at now.
    ready: BTreeSet<ServiceName>,
    /// To be looked at later, the earliest first.
    later: BTreeSet<(Duration, ServiceName)>,
    waiting: HashMap<ServiceName, Waiting>,
    failing: usize,
}

#[derive(Debug)]
struct Waiting {
    until: Duration,
    /// How often it has failed in a row.
    failures: u32,
}

impl Schedule {
    /// A Service may have something to do. It is looked at now, even if it waits after a failure.
    pub(super) fn mark(&mut self, service: ServiceName) {
        let _ = self.ready.insert(service);
    }

    /// The Services to be looked at now. Each of them must be [`failed`](Self::failed) or
    /// [`done`](Self::done) afterwards.
    pub(super) fn take(&mut self, now: Duration) -> BTreeSet<ServiceName> {
        while let Some((until, service)) = self.later.first()
            && *until <= now
        {
            let _ = self.ready.insert(service.clone());
            let _ = self.later.pop_first();
        }
        mem::take(&mut self.ready)
    }

    /// A Service has failed and is to be tried again.
    pub(super) fn failed(&mut self, service: ServiceName, now: Duration) {
        let failures = self.waiting.get(&service).map_or(0, |waiting| waiting.failures);
        self.wait(service, now + backoff::pause(failures), failures + 1);
    }

    /// A Service has been looked at, and has more to do at the time that is given, if any.
    pub(super) fn done(&mut self, service: ServiceName, again: Option<Duration>) {
        if let Some(until) = again {
            self.wait(service, until, 0);
        } else {
            self.stop_waiting(&service);
        }
    }

    /// What has failed is looked at now: there is room.
    pub(super) fn hurry(&mut self) {
        let failed = self.waiting.iter().filter(|(_, waiting)| waiting.failures > 0);
        self.ready.extend(failed.map(|(service, _)| service.clone()));
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        self.later.first().map(|(until, _)| *until)
    }

    /// How many Services are to be looked at, now or later.
    pub(super) fn pending(&self) -> usize {
        let waiting_only = self.ready.iter().filter(|name| !self.waiting.contains_key(*name));
        self.waiting.len() + waiting_only.count()
    }

    /// How many Services have failed at the last attempt.
    pub(super) const fn failing(&self) -> usize {
        self.failing
    }

    /// Whether a Service has.
    pub(super) fn is_failing(&self, service: &ServiceName) -> bool {
        self.waiting.get(service).is_some_and(|waiting| waiting.failures > 0)
    }

    fn wait(&mut self, service: ServiceName, until: Duration, failures: u32) {
        self.stop_waiting(&service);
        self.failing += usize::from(failures > 0);
        let _ = self.later.insert((until, service.clone()));
        let _ = self.waiting.insert(service, Waiting { until, failures });
    }

    fn stop_waiting(&mut self, service: &ServiceName) {
        if let Some(waiting) = self.waiting.remove(service) {
            self.failing -= usize::from(waiting.failures > 0);
            let _ = self.later.remove(&(waiting.until, service.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(schedule: &mut Schedule, now: Duration) -> Vec<String> {
        let taken = schedule.take(now);
        taken.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pauses_grow_and_end() {
        let mut schedule = Schedule::default();
        let name = ServiceName::new("ns", "a");
        let mut now = Duration::from_secs(1);
        let mut pauses = Vec::new();
        schedule.mark(name.clone());
        for _ in 0..12 {
            assert_eq!(taken(&mut schedule, now), ["ns/a"]);
            schedule.failed(name.clone(), now);
            assert_eq!((schedule.pending(), schedule.failing()), (1, 1));
            let next = schedule.next().unwrap();
            pauses.push(next.saturating_sub(now).as_millis());
            now = next;
        }
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[9..], [30_000, 30_000, 30_000]);
        assert_eq!(taken(&mut schedule, now), ["ns/a"]);
        schedule.done(name, None);
        assert_eq!((schedule.pending(), schedule.failing(), schedule.next()), (0, 0, None));
    }

    #[test]
    fn a_change_does_not_wait_for_the_pause_to_end() {
        let mut schedule = Schedule::default();
        let name = ServiceName::new("ns", "a");
        schedule.failed(name.clone(), Duration::ZERO);
        assert!(taken(&mut schedule, Duration::ZERO).is_empty());
        schedule.mark(name.clone());
        assert_eq!(schedule.pending(), 1);
        assert_eq!(taken(&mut schedule, Duration::ZERO), ["ns/a"]);
        schedule.done(name, Some(Duration::from_secs(5)));
        assert_eq!((schedule.failing(), schedule.next()), (0, Some(Duration::from_secs(5))));
    }
}
