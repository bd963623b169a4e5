// SPDX-License-Identifier: Apache-2.0
//! Whether the proxy itself is well: as kube-proxy has it (`ProxyHealthServer` in
//! `pkg/proxy/healthcheck/proxy_health.go`, Kubernetes 1.36), where all Services are one piece of
//! work. Here a Service that cannot be served is none of the others' concern.

use std::time::{Duration, SystemTime};

use tokio::{sync::watch, time::Instant};

use super::{Runner, tell};

/// How long a family may be stuck, unless somebody says otherwise: kube-proxy's, which is twice its default
/// `--nftables-sync-period`.
const PATIENCE: Duration = Duration::from_mins(1);

/// How far a family has come with what there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyProgress {
    /// Its name.
    pub family: &'static str,
    /// When its tables were last as they should be, after a change.
    pub updated: Option<SystemTime>,
    /// Since when something is to be done, if anything is.
    pub queued: Option<Instant>,
}

/// How far all have come, and what the own Node is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Each family that the node has.
    pub families: Vec<FamilyProgress>,
    /// What is known of the own Node.
    pub node: NodeState,
}

/// What is known of the own Node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeState {
    /// Nothing, as objects have not been read.
    #[default]
    Unknown,
    /// There is no such Node, and has not been since the start.
    Missing,
    /// It is there, and load balancers may send it clients.
    Eligible,
    /// It is being deleted, or the cluster's autoscaler is about to.
    Leaving,
    /// It was there, and has been deleted.
    Gone,
}

/// Since when each family is stuck, and what has been told.
#[derive(Debug)]
pub(super) struct Health {
    patience: Duration,
    told: watch::Sender<bool>,
    progress: watch::Sender<Progress>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            patience: PATIENCE,
            told: watch::Sender::default(),
            progress: watch::Sender::default(),
        }
    }
}

impl Health {
    /// Notes that there is something to do for these families, before anybody does it: whoever asks meanwhile is told.
    fn begin(&self, families: &[&'static str], now: Instant) {
        let _ = self.progress.send_if_modified(|progress| {
            progress.know(families);
            let idle = progress.families.iter_mut().filter(|family| family.queued.is_none());
            idle.map(|family| family.queued = Some(now)).count() > 0
        });
    }

    /// Notes which families are stuck, and tells what follows of that.
    fn note(&self, stuck: &[(&'static str, bool)], is_synced: bool, node: NodeState, now: Instant) {
        let names: Vec<_> = stuck.iter().map(|(name, _)| *name).collect();
        let mut in_time = true;
        let _ = self.progress.send_if_modified(|progress| {
            let before = progress.clone();
            progress.know(&names);
            progress.node = node;
            for (family, (_, is_stuck)) in progress.families.iter_mut().zip(stuck) {
                if *is_stuck {
                    let since = *family.queued.get_or_insert(now);
                    in_time &= now < since + self.patience;
                } else if family.queued.take().is_some() {
                    family.updated = Some(SystemTime::now());
                }
            }
            *progress != before
        });
        tell(&self.told, is_synced && in_time);
    }

    /// When a family that is stuck will have been so for too long, if none has yet.
    pub(super) fn next(&self) -> Option<Instant> {
        let is_well = *self.told.borrow();
        let progress = self.progress.borrow();
        let first = progress.families.iter().filter_map(|family| family.queued).min();
        first.filter(|_| is_well).map(|since| since + self.patience)
    }
}

impl Progress {
    /// Has a row for each family, in their order.
    fn know(&mut self, families: &[&'static str]) {
        for family in families.iter().skip(self.families.len()) {
            self.families.push(FamilyProgress { family, updated: None, queued: None });
        }
    }
}

impl Runner {
    /// Lets a family be stuck for this long before the proxy is not well.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.health.patience = patience;
        self
    }

    /// Whether the proxy is well, now and whenever that changes: it knows what there is, and no
    /// family has been stuck for a minute. Sources that are away do not matter.
    #[must_use]
    pub fn healthy(&self) -> watch::Receiver<bool> {
        self.health.told.subscribe()
    }

    /// How far each family has come, now and whenever that changes.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.health.progress.subscribe()
    }

    /// Notes that Services are to be planned and written.
    pub(super) fn note_work(&self) {
        let families: Vec<_> = self.families.iter().map(|family| family.name()).collect();
        self.health.begin(&families, Instant::now());
    }

    /// Looks at how the families are.
    pub(super) fn note_health(&mut self) {
        let families = self.families.iter();
        let stuck: Vec<_> = families.map(|family| (family.name(), family.is_stuck())).collect();
        let is_synced = self.unsynced.is_empty();
        let node = match self.store.node() {
            _ if !is_synced => NodeState::Unknown,
            _ if self.store.node_is_gone() => NodeState::Gone,
            None => NodeState::Missing,
            Some(node) if node.is_leaving => NodeState::Leaving,
            Some(_) => NodeState::Eligible,
        };
        self.health.note(&stuck, is_synced, node, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told, one after the other, when so many seconds have passed since the start and
    /// these of two families are stuck.
    fn told(steps: &[(u64, [bool; 2])]) -> Vec<bool> {
        let start = Instant::now();
        let health = Health::default();
        let note = |(seconds, stuck): &(u64, [bool; 2])| {
            let now = start + Duration::from_secs(*seconds);
            health.note(&of(*stuck), true, NodeState::Eligible, now);
            *health.told.borrow()
        };
        steps.iter().map(note).collect()
    }

    fn of(stuck: [bool; 2]) -> [(&'static str, bool); 2] {
        [("IPv4", stuck[0]), ("IPv6", stuck[1])]
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
        let (now, health) = (Instant::now(), Health::default());
        let note = |stuck, is_synced, now| {
            health.note(&of(stuck), is_synced, NodeState::Unknown, now);
            (*health.told.borrow(), health.next())
        };
        assert_eq!(note(NONE, false, now), (false, None));
        assert_eq!(note(SECOND, true, now), (true, Some(now + PATIENCE)));
        assert_eq!(note(SECOND, true, now + PATIENCE), (false, None));
    }

    #[test]
    fn work_is_queued_until_it_is_done() {
        let (now, health) = (Instant::now(), Health::default());
        let families = || health.progress.borrow().families.clone();
        health.begin(&["IPv4", "IPv6"], now);
        health.begin(&["IPv4", "IPv6"], now + PATIENCE);
        assert!(families().iter().all(|family| family.queued == Some(now)));
        assert!(families().iter().all(|family| family.updated.is_none()));
        health.note(&of(SECOND), true, NodeState::Eligible, now + PATIENCE);
        let [first, second] = families()[..] else { panic!("both families") };
        assert_eq!((first.queued, second.queued), (None, Some(now)));
        assert!(first.updated.is_some() && second.updated.is_none());
        health.note(&of(NONE), true, NodeState::Eligible, now + 2 * PATIENCE);
        let [again, second] = families()[..] else { panic!("both families") };
        assert_eq!(again, first, "there was nothing to do");
        assert!(second.queued.is_none() && second.updated.is_some());
    }
}
