// SPDX-License-Identifier: Apache-2.0
//! What is written for one Service in each pass.

use std::{sync::Arc, time::Duration};

use proxy_common::{
    Family, Protocol,
    frontend::{Frontend, FrontendKey},
};

use super::{
    super::{
        apply::apply,
        frontends::Target,
        outcome::{Outcome, Problem, ReconcileError},
        progress::Watched,
        row::{Raise, Row},
        shortfalls::PortName,
    },
    FamilyReconciler,
};
use crate::{
    dataplane::{Dataplane, Op},
    model::ServiceName,
    plan::{PortId, PortPlan},
};

/// Why a pass has not done all for a Service, and at which port, if it was at one.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) port: Option<PortName>,
    pub(super) error: ReconcileError,
}

impl From<ReconcileError> for Failed {
    fn from(error: ReconcileError) -> Self {
        Self { port: None, error }
    }
}

/// What a port is called.
pub(super) fn name_of<F: Family>(port: &PortPlan<F>) -> PortName {
    (port.id, Arc::clone(&port.name.port))
}

/// How far a Service has been raised.
#[derive(Default)]
struct Raised {
    /// The first thing that could not be done.
    problem: Option<Failed>,
    /// Its ports of which new flows are not served as they should be: nothing is taken away that they may need.
    behind: Vec<PortId>,
}

impl Raised {
    fn note<F: Family>(&mut self, port: Option<&PortPlan<F>>, error: impl Into<ReconcileError>) {
        let port = port.map(name_of);
        let _ = self.problem.get_or_insert_with(|| Failed { port, error: error.into() });
    }
}

impl<F: Family> FamilyReconciler<F> {
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
            went_on |= watched.take_written() && result.problem.is_none();
            raised.push((name, result));
        }
        for (name, raised) in raised {
            // Even where there was no room: what goes makes some.
            let result = self.lower(&name, &raised, &mut watched, clock, &mut outcome.left_sockets);
            let result = raised.problem.map_or(result.map_err(Failed::from), Err);
            went_on |= watched.take_written() && result.is_ok();
            match result {
                // Where there are no rows there may be room for marks, so that clients are refused.
                Ok(_) | Err(Failed { error: ReconcileError::Exhausted(_), .. }) => {
                    lowered.push((name, result));
                }
                Err(failed) => self.stop(name, failed, clock(), &mut outcome),
            }
        }
        if went_on {
            self.progress.went_on();
        }
        for (name, result) in lowered {
            let marked = self.mark(&name, result.is_ok(), dataplane);
            match result {
                Ok(again) => {
                    self.progress.succeeded(&name);
                    match marked {
                        Ok(()) => {
                            self.shortfalls.done(&name);
                            self.schedule.done(name, again);
                        }
                        Err(error) => self.fail(name, error.into(), clock(), &mut outcome),
                    }
                }
                Err(failed) => self.stop(name, failed, clock(), &mut outcome),
            }
        }
        outcome.lacks = self.shortfalls.take_news();
        outcome
    }

    /// Writes all that new flows of a Service need, its marks excepted; where there is no room for all of it, what
    /// there is room for.
    fn raise<D: Dataplane<F>>(
        &mut self,
        name: &ServiceName,
        dataplane: &mut D,
        clock: &dyn Fn() -> Duration,
    ) -> Raised {
        let mut raised = Raised::default();
        let Some(entry) = self.services.get_mut(name) else {
            return raised;
        };
        let mut ports = entry.plan.iter().flat_map(|plan| &plan.ports);
        while let Some(port) = ports.next() {
            let row = entry
                .rows
                .get_or_try_insert(port.id, || self.ids.take_service(clock()).map(Row::new));
            let row = match row {
                Ok(row) => row,
                Err(full) => {
                    raised.note(Some(port), full);
                    continue;
                }
            };
            let Raise { ops, lacks } = row.raise(port, &mut self.ids, clock());
            if let Some(full) = lacks {
                raised.note(Some(port), full);
            }
            let written = apply(dataplane, &ops, |op| {
                row.commit(op, &mut self.ids, clock());
            });
            if let Err(error) = written {
                raised.note(Some(port), error);
                raised.behind.push(port.id);
                raised.behind.extend(ports.map(|port| port.id));
                return raised;
            }
        }
        for key in &entry.touched {
            if let Target::Port(winner) = self.frontends.target(key)
                && winner.service == *name
                && let Some(row) = entry.rows.get(&winner.port)
            {
                let (id, frontend) = (winner.port, Frontend::new(row.index, winner.kind));
                let mut ops = Vec::new();
                self.frontends.point(*key, frontend, &mut ops);
                if let Err(error) = apply(dataplane, &ops, |op| self.frontends.commit(op)) {
                    raised.note(entry.plan.as_ref().and_then(|plan| plan.port(id)), error);
                    return raised;
                }
            }
        }
        raised
    }

    /// Takes away all that a Service needs no more, and notes whether UDP sockets are left without
    /// a backend by it. Says when there is more to do.
    fn lower<D: Dataplane<F>>(
        &mut self,
        name: &ServiceName,
        raised: &Raised,
        dataplane: &mut D,
        clock: &dyn Fn() -> Duration,
        left_sockets: &mut bool,
    ) -> Result<Option<Duration>, ReconcileError> {
        let Some(entry) = self.services.get_mut(name) else {
            return Ok(None);
        };
        let own = |applied: Frontend| entry.rows.values().any(|row| row.index == applied.service());
        let is_planned = |id| entry.plan.as_ref().is_some_and(|plan| plan.port(id).is_some());
        let unwanted = |key: &FrontendKey<F>| match (
            self.frontends.applied(key),
            self.frontends.target(key),
        ) {
            (Some(_), Target::Nothing) => true,
            // The mark comes last, but the row behind it may go now.
            (Some(applied), Target::Mark(_)) => own(applied),
            // Another Service gets it but has not taken it yet; it must not go on leading here,
            // unless this Service still has the same for it.
            (Some(applied), Target::Port(winner)) if winner.service != *name => {
                let mut claims = self.frontends.claimants(key).iter();
                let stays = |row: &Row<F>, kind| Frontend::new(row.index, kind) == applied;
                own(applied)
                    && !claims.any(|claim| {
                        claim.service == *name
                            && entry.rows.get(&claim.port).is_some_and(|row| stays(row, claim.kind))
                    })
            }
            // It is to lead to another port of this Service, for which there is no room, and that one goes.
            (Some(applied), Target::Port(_)) => {
                let mut rows = entry.rows.iter();
                rows.any(|(id, row)| row.index == applied.service() && !is_planned(*id))
            }
            _ => false,
        };
        let keys = entry.touched.iter().copied().filter(unwanted);
        let ops: Vec<_> = keys.map(|key| Op::RemoveFrontend { key }).collect();
        apply(dataplane, &ops, |op| self.frontends.commit(op))?;
        // Marks are still to be set.
        if raised.problem.is_none() {
            entry.touched.retain(|key| matches!(self.frontends.target(key), Target::Mark(_)));
        }
        let mut again: Option<Duration> = None;
        for id in entry.rows.iter().map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(row) = entry.rows.get_mut(&id) else {
                continue;
            };
            let port = entry.plan.as_ref().and_then(|plan| plan.port(id));
            let gone = port.is_none();
            let (ops, later) = match port {
                Some(port) if raised.behind.contains(&id) => {
                    (row.relieve(port, &mut self.ids, clock()), None)
                }
                port => row.lower(port, &mut self.ids, clock()),
            };
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
    /// no room for them, all else is done nevertheless. If it is `whole`, nothing is left to be done then.
    fn mark<D: Dataplane<F>>(
        &mut self,
        name: &ServiceName,
        whole: bool,
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
        if !whole {
            return Ok(());
        }
        entry.touched = Vec::new();
        if entry.plan.is_none() {
            let _ = self.services.remove(name);
        }
        Ok(())
    }

    /// Notes what has failed before the marks.
    fn stop(&mut self, service: ServiceName, failed: Failed, now: Duration, outcome: &mut Outcome) {
        self.progress.failed(&service, &failed.error);
        self.fail(service, failed, now, outcome);
    }

    fn fail(
        &mut self,
        service: ServiceName,
        Failed { port, error }: Failed,
        now: Duration,
        outcome: &mut Outcome,
    ) {
        self.shortfalls.failed(&service, port, &error);
        self.schedule.failed(service.clone(), now);
        outcome.problems.push(Problem { service, error });
    }
}
