// SPDX-License-Identifier: Apache-2.0
//! Whether the proxy itself is well: as kube-proxy has it (`ProxyHealthServer` in
//! `pkg/proxy/healthcheck/proxy_health.go`, Kubernetes 1.36).

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use super::{Runner, tell};

/// How long a family may wait for what it wants: kube-proxy's, which is twice its default
/// `--nftables-sync-period`.
const PATIENCE: Duration = Duration::from_mins(1);

/// Since when each family waits, and what has been told.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// When something has failed in a family of which nothing did before, in the order of the
    /// families. Only when all of it has been done does it wait no more.
    waiting: Vec<Option<Instant>>,
    told: watch::Sender<bool>,
}

impl Health {
    /// Notes how many Services fail in each family, and tells what follows of that.
    fn note(&mut self, failing: &[usize], is_synced: bool, now: Instant) {
        self.waiting.resize(failing.len(), None);
        for (since, failing) in self.waiting.iter_mut().zip(failing) {
            *since = (*failing > 0).then(|| since.unwrap_or(now));
        }
        let in_time = |since: &Option<Instant>| since.is_none_or(|since| now < since + PATIENCE);
        tell(&self.told, is_synced && self.waiting.iter().all(in_time));
    }

    /// When a family that waits will have waited too long, if none has yet.
    pub(super) fn next(&self) -> Option<Instant> {
        let is_well = *self.told.borrow();
        let first = self.waiting.iter().flatten().min().filter(|_| is_well);
        first.map(|since| *since + PATIENCE)
    }
}

impl Runner {
    /// Whether the proxy is well, now and whenever that changes: it knows what there is, and in no
    /// family has a change failed for a minute. Sources that are away do not matter.
    #[must_use]
    pub fn healthy(&self) -> watch::Receiver<bool> {
        self.health.told.subscribe()
    }

    /// Looks at how the families are.
    pub(super) fn note_health(&mut self) {
        let failing: Vec<_> = self.families.iter().map(|family| family.failing()).collect();
        self.health.note(&failing, self.unsynced.is_empty(), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told, one after the other, when so many seconds have passed since the start and so
    /// many Services fail in each of two families.
    fn told(steps: &[(u64, [usize; 2])]) -> Vec<bool> {
        let start = Instant::now();
        let mut health = Health::default();
        let mut note = |(seconds, failing): &(u64, [usize; 2])| {
            health.note(failing, true, start + Duration::from_secs(*seconds));
            *health.told.borrow()
        };
        steps.iter().map(&mut note).collect()
    }

    #[test]
    fn a_family_may_wait_for_a_minute() {
        assert_eq!(told(&[(0, [0, 0]), (5, [1, 0]), (64, [1, 0])]), [true; 3]);
        assert_eq!(told(&[(5, [1, 0]), (65, [1, 0]), (66, [0, 0])]), [true, false, true]);
        assert_eq!(told(&[(5, [0, 2]), (65, [0, 1])]), [true, false]);
    }

    #[test]
    fn families_wait_each_by_itself() {
        // Neither for a minute, though there is always one that does.
        assert_eq!(told(&[(0, [1, 0]), (40, [0, 1]), (80, [1, 0]), (120, [0, 0])]), [true; 4]);
        assert_eq!(told(&[(0, [1, 0]), (40, [1, 1]), (60, [0, 1])]), [true; 3]);
        // Other Services, in a family that has never been done.
        assert_eq!(told(&[(0, [1, 0]), (40, [2, 0]), (60, [1, 0])]), [true, true, false]);
    }

    #[test]
    fn it_is_not_well_before_all_is_known() {
        let (now, mut health) = (Instant::now(), Health::default());
        health.note(&[0, 0], false, now);
        assert_eq!((*health.told.borrow(), health.next()), (false, None));
        health.note(&[0, 1], true, now);
        assert_eq!((*health.told.borrow(), health.next()), (true, Some(now + PATIENCE)));
        health.note(&[0, 1], true, now + PATIENCE);
        assert_eq!((*health.told.borrow(), health.next()), (false, None));
    }
}
