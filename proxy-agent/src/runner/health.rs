// SPDX-License-Identifier: Apache-2.0
//! Whether the proxy itself is well: as kube-proxy has it (`ProxyHealthServer` in
//! `pkg/proxy/healthcheck/proxy_health.go`, Kubernetes 1.36), where all Services are one piece of
//! work. Here a Service that cannot be served is none of the others' concern.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use super::{Runner, tell};

/// How long a family may be stuck: kube-proxy's, which is twice its default
/// `--nftables-sync-period`.
const PATIENCE: Duration = Duration::from_mins(1);

/// Since when each family is stuck, and what has been told.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// In the order of the families.
    stuck: Vec<Option<Instant>>,
    told: watch::Sender<bool>,
}

impl Health {
    /// Notes which families are stuck, and tells what follows of that.
    fn note(&mut self, stuck: &[bool], is_synced: bool, now: Instant) {
        self.stuck.resize(stuck.len(), None);
        for (since, is_stuck) in self.stuck.iter_mut().zip(stuck) {
            *since = is_stuck.then(|| since.unwrap_or(now));
        }
        let in_time = |since: &Option<Instant>| since.is_none_or(|since| now < since + PATIENCE);
        tell(&self.told, is_synced && self.stuck.iter().all(in_time));
    }

    /// When a family that is stuck will have been so for too long, if none has yet.
    pub(super) fn next(&self) -> Option<Instant> {
        let is_well = *self.told.borrow();
        let first = self.stuck.iter().flatten().min().filter(|_| is_well);
        first.map(|since| *since + PATIENCE)
    }
}

impl Runner {
    /// Whether the proxy is well, now and whenever that changes: it knows what there is, and no
    /// family has been stuck for a minute. Sources that are away do not matter.
    #[must_use]
    pub fn healthy(&self) -> watch::Receiver<bool> {
        self.health.told.subscribe()
    }

    /// Looks at how the families are.
    pub(super) fn note_health(&mut self) {
        let stuck: Vec<_> = self.families.iter().map(|family| family.is_stuck()).collect();
        self.health.note(&stuck, self.unsynced.is_empty(), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told, one after the other, when so many seconds have passed since the start and
    /// these of two families are stuck.
    fn told(steps: &[(u64, [bool; 2])]) -> Vec<bool> {
        let start = Instant::now();
        let mut health = Health::default();
        let mut note = |(seconds, stuck): &(u64, [bool; 2])| {
            health.note(stuck, true, start + Duration::from_secs(*seconds));
            *health.told.borrow()
        };
        steps.iter().map(&mut note).collect()
    }

    const NONE: [bool; 2] = [false, false];
    const FIRST: [bool; 2] = [true, false];
    const SECOND: [bool; 2] = [false, true];

    #[test]
    fn a_family_may_be_stuck_for_a_minute() {
        assert_eq!(told(&[(0, NONE), (5, FIRST), (64, FIRST)]), [true; 3]);
        assert_eq!(told(&[(5, FIRST), (65, FIRST), (66, NONE)]), [true, false, true]);
        assert_eq!(told(&[(5, SECOND), (65, SECOND)]), [true, false]);
    }

    #[test]
    fn families_are_stuck_each_by_itself() {
        // Neither for a minute, though there is always one that is.
        assert_eq!(told(&[(0, FIRST), (40, SECOND), (80, FIRST), (120, NONE)]), [true; 4]);
        assert_eq!(told(&[(0, FIRST), (40, [true; 2]), (60, SECOND)]), [true; 3]);
    }

    #[test]
    fn it_is_not_well_before_all_is_known() {
        let (now, mut health) = (Instant::now(), Health::default());
        health.note(&NONE, false, now);
        assert_eq!((*health.told.borrow(), health.next()), (false, None));
        health.note(&SECOND, true, now);
        assert_eq!((*health.told.borrow(), health.next()), (true, Some(now + PATIENCE)));
        health.note(&SECOND, true, now + PATIENCE);
        assert_eq!((*health.told.borrow(), health.next()), (false, None));
    }
}
