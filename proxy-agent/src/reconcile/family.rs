// SPDX-License-Identifier: Apache-2.0
//! The reconciler of one family.

mod passes;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use foldhash::fast::RandomState;
use proxy_common::{Family, frontend::FrontendKey};

use super::{
    frontends::{Claim, Frontends, claims, without},
    ids::{Ids, Rows},
    node_addresses::NodeAddresses,
    outcome::{Conflict, Outcome, Problem, ReconcileError},
    progress::{Progress, Watched},
    row::Row,
    schedule::Schedule,
};
use crate::{
    dataplane::Dataplane,
    few::Few,
    model::ServiceName,
    plan::{PortId, ServicePlan},
};

/// Keeps the tables of one family as the plans say.
#[derive(Debug)]
pub struct FamilyReconciler<F: Family> {
    /// Boxed: the map has room for up to twice as many.
    services: HashMap<ServiceName, Box<Entry<F>>, RandomState>,
    frontends: Frontends<F>,
    ids: Ids,
    node_addresses: NodeAddresses<F>,
    schedule: Schedule,
    progress: Progress,
    conflicts: Vec<Conflict<F>>,
}

/// One Service.
#[derive(Debug)]
struct Entry<F: Family> {
    /// What is desired; nothing once the Service is gone.
    plan: Option<ServicePlan<F>>,
    /// What is applied.
    rows: Few<PortId, Row<F>>,
    /// Frontends that this Service has to look after, each once, in order. At the start that is all of them, so
    /// that they take no more room than they need: what all Services have at once stays in the heap as holes.
    touched: Vec<FrontendKey<F>>,
}

impl<F: Family> FamilyReconciler<F> {
    /// Empty tables with room for this much.
    #[must_use]
    pub fn new(capacity: Rows) -> Self {
        Self {
            services: HashMap::default(),
            frontends: Frontends::new(),
            ids: Ids::new(capacity),
            node_addresses: NodeAddresses::new(),
            schedule: Schedule::default(),
            progress: Progress::default(),
            conflicts: Vec::new(),
        }
    }

    /// Takes a new plan of a Service; none if it is gone from this family. The next
    /// [`flush`](Self::flush) acts on it.
    pub fn set(&mut self, name: &ServiceName, plan: Option<ServicePlan<F>>) {
        let entry = match self.services.get_mut(name) {
            Some(entry) if entry.plan == plan => return,
            Some(entry) => entry,
            None if plan.is_none() => return,
            None => self.services.entry(name.clone()).or_insert_with(|| {
                Box::new(Entry { plan: None, rows: Few::new(), touched: Vec::new() })
            }),
        };
        let before = entry.plan.as_ref().map(claims).unwrap_or_default();
        let after = plan.as_ref().map(claims).unwrap_or_default();
        entry.plan = plan;
        for (key, claim) in without(&after, &before) {
            self.frontends.claim(*key, claim.clone());
        }
        for (key, claim) in without(&before, &after) {
            self.frontends.disclaim(key, claim);
        }
        let changed = || without(&before, &after).chain(without(&after, &before));
        // It may have to let go of them, or to take them.
        if let Some(entry) = self.services.get_mut(name) {
            let keys: Vec<_> = changed().map(|(key, _)| *key).collect();
            entry.touched.reserve_exact(keys.len());
            entry.touched.extend(keys);
            entry.touched.sort_unstable();
            entry.touched.dedup();
        }
        self.schedule.mark(name.clone());
        for (key, claim) in changed() {
            if let Claim::Port(_) = claim {
                self.hand_over(*key);
            }
        }
    }

    /// Carries out what is due, and notes what failed for later. `clock` never goes back.
    pub fn flush<D: Dataplane<F>>(
        &mut self,
        dataplane: &mut D,
        clock: &dyn Fn() -> Duration,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let (mut raised, mut lowered) = (Vec::new(), Vec::new());
        let mut watched = Watched::new(dataplane);
        let mut went_on = false;
        for name in self.schedule.take(clock()) {
            let result = self.raise(&name, &mut watched, clock);
            went_on |= watched.take_written() && result.is_ok();
            match result {
                Ok(()) => raised.push(name),
                Err(error) => self.stop(name, error, clock(), &mut outcome),
            }
        }
        for name in raised {
            let result = self.lower(&name, &mut watched, clock, &mut outcome.left_sockets);
            went_on |= watched.take_written() && result.is_ok();
            match result {
                Ok(again) => lowered.push((name, again)),
                Err(error) => self.stop(name, error, clock(), &mut outcome),
            }
        }
        if went_on {
            self.progress.went_on();
        }
        for (name, again) in lowered {
            self.progress.succeeded(&name);
            match self.mark(&name, dataplane) {
                Ok(()) => self.schedule.done(name, again),
                Err(error) => self.fail(name, error, clock(), &mut outcome),
            }
        }
        outcome
    }

    /// Serves node ports at these addresses, as far as they are of this family, and at no others.
    /// The next [`flush_node_addresses`](Self::flush_node_addresses) acts on it.
    pub fn set_node_addresses(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.node_addresses.set(addresses, &mut self.frontends);
    }

    /// Marks the node's addresses. `now` is on the clock that is passed to [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// What the dataplane could not do. It is tried again after a pause.
    pub fn flush_node_addresses<D: Dataplane<F>>(
        &mut self,
        dataplane: &mut D,
        now: Duration,
    ) -> Result<(), ReconcileError> {
        self.node_addresses.flush(&mut self.frontends, dataplane, now)
    }

    /// When the next flush has something to do, on the clock that is passed to it; nothing if only
    /// a new plan or new addresses can give it something.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.schedule.next().into_iter().chain(self.node_addresses.next()).min()
    }

    /// How many Services have something to do, now or later.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.schedule.pending()
    }

    /// How many Services have failed at the last attempt; the node's addresses count as one.
    #[must_use]
    pub fn failing(&self) -> usize {
        self.schedule.failing() + usize::from(self.node_addresses.is_failing())
    }

    /// Whether nothing can be done: several Services have failed, marks aside, and for none has
    /// anything been done in whole since; or the node's addresses have failed at the last attempt.
    /// A Service that fails by itself does not count.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.progress.is_stuck() || self.node_addresses.is_failing()
    }

    /// How many rows are taken, without those that rest.
    #[cfg(test)]
    pub(super) const fn in_use(&self) -> Rows {
        self.ids.in_use()
    }

    /// The conflicts that have come up, or have changed, since the last call.
    pub fn take_conflicts(&mut self) -> Vec<Conflict<F>> {
        std::mem::take(&mut self.conflicts)
    }

    /// Has a frontend that Service ports want, or have wanted, looked after by the Service that gets it.
    fn hand_over(&mut self, key: FrontendKey<F>) {
        let [winner, losers @ ..] = self.frontends.claimants(&key) else {
            return;
        };
        let winner = winner.service.clone();
        if !losers.is_empty() {
            let losers = losers.iter().map(|loser| loser.service.clone()).collect();
            self.conflicts.push(Conflict { key, winner: winner.clone(), losers });
        }
        if let Some(entry) = self.services.get_mut(&winner) {
            if let Err(place) = entry.touched.binary_search(&key) {
                entry.touched.insert(place, key);
            }
            self.schedule.mark(winner);
        }
    }

    /// Notes what has failed before the marks.
    fn stop(
        &mut self,
        service: ServiceName,
        error: ReconcileError,
        now: Duration,
        outcome: &mut Outcome,
    ) {
        self.progress.failed(&service, &error);
        self.fail(service, error, now, outcome);
    }

    fn fail(
        &mut self,
        service: ServiceName,
        error: ReconcileError,
        now: Duration,
        outcome: &mut Outcome,
    ) {
        self.schedule.failed(service.clone(), now);
        outcome.problems.push(Problem { service, error });
    }
}
