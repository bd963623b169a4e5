// SPDX-License-Identifier: Apache-2.0
//! The reconciler of one family.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map},
    time::Duration,
};

use proxy_common::{
    Family, Protocol,
    frontend::{Frontend, FrontendKey},
};

use super::{
    apply::apply,
    frontends::{Claim, Frontends, Target, claims},
    ids::{Ids, Rows},
    outcome::{Conflict, Outcome, Problem, ReconcileError},
    row::Row,
    schedule::Schedule,
};
use crate::{
    dataplane::{Dataplane, Op},
    model::ServiceName,
    plan::{PortId, ServicePlan},
};

/// Keeps the tables of one family as the plans say.
#[derive(Debug)]
pub struct FamilyReconciler<F: Family> {
    services: HashMap<ServiceName, Entry<F>>,
    frontends: Frontends<F>,
    ids: Ids,
    schedule: Schedule,
    conflicts: Vec<Conflict<F>>,
}

/// One Service.
#[derive(Debug)]
struct Entry<F: Family> {
    /// What is desired; nothing once the Service is gone.
    plan: Option<ServicePlan<F>>,
    /// What is applied.
    rows: BTreeMap<PortId, Row<F>>,
    /// Frontends that this Service has to look after.
    touched: BTreeSet<FrontendKey<F>>,
}

impl<F: Family> FamilyReconciler<F> {
    /// Empty tables with room for this much.
    #[must_use]
    pub fn new(capacity: Rows) -> Self {
        Self {
            services: HashMap::new(),
            frontends: Frontends::new(),
            ids: Ids::new(capacity),
            schedule: Schedule::default(),
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
            None => self.services.entry(name.clone()).or_insert(Entry {
                plan: None,
                rows: BTreeMap::new(),
                touched: BTreeSet::new(),
            }),
        };
        let before = entry.plan.as_ref().map(claims).unwrap_or_default();
        let after = plan.as_ref().map(claims).unwrap_or_default();
        entry.plan = plan;
        for (key, claim) in after.difference(&before) {
            self.frontends.claim(*key, claim.clone());
        }
        for (key, claim) in before.difference(&after) {
            self.frontends.disclaim(key, claim);
        }
        for (key, claim) in before.symmetric_difference(&after) {
            self.touch(name, *key, claim);
        }
        self.schedule.mark(name.clone());
    }

    /// Carries out what is due, and notes what failed for later. `clock` never goes back.
    pub fn flush<D: Dataplane<F>>(
        &mut self,
        dataplane: &mut D,
        clock: &dyn Fn() -> Duration,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let (mut raised, mut lowered) = (Vec::new(), Vec::new());
        for name in self.schedule.take(clock()) {
            match self.raise(&name, dataplane, clock) {
                Ok(()) => raised.push(name),
                Err(error) => self.fail(name, error, clock(), &mut outcome),
            }
        }
        for name in raised {
            match self.lower(&name, dataplane, clock, &mut outcome.left_sockets) {
                Ok(again) => lowered.push((name, again)),
                Err(error) => self.fail(name, error, clock(), &mut outcome),
            }
        }
        for (name, again) in lowered {
            match self.mark(&name, dataplane) {
                Ok(()) => self.schedule.done(name, again),
                Err(error) => self.fail(name, error, clock(), &mut outcome),
            }
        }
        outcome
    }

    /// When the next [`flush`](Self::flush) has something to do, on the clock that is passed to
    /// it; nothing if only a new plan can give it something.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.schedule.next()
    }

    /// How many Services have something to do, now or later.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.schedule.pending()
    }

    /// How many Services have failed at the last attempt.
    #[must_use]
    pub const fn failing(&self) -> usize {
        self.schedule.failing()
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

    /// Has a frontend of which `name` has changed its claim looked after: by `name`, which may
    /// have to let go of it, and by the Service that gets it.
    fn touch(&mut self, name: &ServiceName, key: FrontendKey<F>, claim: &Claim) {
        let mut carers = vec![name.clone()];
        if let Claim::Port(_) = claim
            && let [winner, losers @ ..] = self.frontends.claimants(&key)
        {
            carers.push(winner.service.clone());
            if !losers.is_empty() {
                self.conflicts.push(Conflict {
                    key,
                    winner: winner.service.clone(),
                    losers: losers.iter().map(|loser| loser.service.clone()).collect(),
                });
            }
        }
        for carer in carers {
            if let Some(entry) = self.services.get_mut(&carer) {
                let _ = entry.touched.insert(key);
                self.schedule.mark(carer);
            }
        }
    }

    /// Writes all that new flows of a Service need, its marks excepted.
    fn raise<D: Dataplane<F>>(
        &mut self,
        name: &ServiceName,
        dataplane: &mut D,
        clock: &dyn Fn() -> Duration,
    ) -> Result<(), ReconcileError> {
        let Some(entry) = self.services.get_mut(name) else {
            return Ok(());
        };
        for port in entry.plan.iter().flat_map(|plan| &plan.ports) {
            let row = match entry.rows.entry(port.id) {
                btree_map::Entry::Occupied(row) => row.into_mut(),
                btree_map::Entry::Vacant(place) => {
                    place.insert(Row::new(self.ids.take_service(clock())?))
                }
            };
            let ops = row.raise(port, &mut self.ids, clock())?;
            apply(dataplane, &ops, |op| {
                row.commit(op, &mut self.ids, clock());
            })?;
        }
        let mut ops = Vec::new();
        for key in &entry.touched {
            if let Target::Port(winner) = self.frontends.target(key)
                && winner.service == *name
                && let Some(row) = entry.rows.get(&winner.port)
            {
                let frontend = Frontend::new(row.index, winner.kind);
                self.frontends.point(*key, frontend, &mut ops);
            }
        }
        apply(dataplane, &ops, |op| self.frontends.commit(op))
    }

    /// Takes away all that a Service needs no more, and notes whether UDP sockets are left without
    /// a backend by it. Says when there is more to do.
    fn lower<D: Dataplane<F>>(
        &mut self,
        name: &ServiceName,
        dataplane: &mut D,
        clock: &dyn Fn() -> Duration,
        left_sockets: &mut bool,
    ) -> Result<Option<Duration>, ReconcileError> {
        let Some(entry) = self.services.get_mut(name) else {
            return Ok(None);
        };
        let own = |applied: Frontend| entry.rows.values().any(|row| row.index == applied.service());
        let unwanted = |key: &FrontendKey<F>| match (
            self.frontends.applied(key),
            self.frontends.target(key),
        ) {
            (Some(_), Target::Nothing) => true,
            // The mark comes last, but the row behind it may go now.
            (Some(applied), Target::Mark(_)) => own(applied),
            // Another Service gets it but has not taken it yet; it must not go on leading here,
            // unless this Service still has something for it.
            (Some(applied), Target::Port(winner)) if winner.service != *name => {
                let claimants = self.frontends.claimants(key);
                own(applied) && claimants.iter().all(|claim| claim.service != *name)
            }
            _ => false,
        };
        let keys = entry.touched.iter().copied().filter(unwanted);
        let ops: Vec<_> = keys.map(|key| Op::RemoveFrontend { key }).collect();
        apply(dataplane, &ops, |op| self.frontends.commit(op))?;
        // Marks are still to be set.
        entry.touched.retain(|key| matches!(self.frontends.target(key), Target::Mark(_)));
        let mut again: Option<Duration> = None;
        for id in entry.rows.keys().copied().collect::<Vec<_>>() {
            let Some(row) = entry.rows.get_mut(&id) else {
                continue;
            };
            let port = entry.plan.as_ref().and_then(|plan| plan.port(id));
            let gone = port.is_none();
            let (ops, later) = row.lower(port, &mut self.ids, clock());
            apply(dataplane, &ops, |op| {
                let is_retired = matches!(op, Op::RetireBackend { .. });
                *left_sockets |= is_retired && id.protocol == Protocol::UDP;
                row.commit(op, &mut self.ids, clock());
            })?;
            again = again.into_iter().chain(later).min();
            if gone {
                let _ = entry.rows.remove(&id);
            }
        }
        Ok(again)
    }

    /// Sets the marks of a Service. Nobody waits for them, so that they come last: where there is
    /// no room for them, all else is done nevertheless.
    fn mark<D: Dataplane<F>>(
        &mut self,
        name: &ServiceName,
        dataplane: &mut D,
    ) -> Result<(), ReconcileError> {
        let Some(entry) = self.services.get_mut(name) else {
            return Ok(());
        };
        let mut ops = Vec::new();
        for key in &entry.touched {
            if let Target::Mark(mark) = self.frontends.target(key) {
                self.frontends.point(*key, mark, &mut ops);
            }
        }
        apply(dataplane, &ops, |op| self.frontends.commit(op))?;
        entry.touched.clear();
        if entry.plan.is_none() {
            let _ = self.services.remove(name);
        }
        Ok(())
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
