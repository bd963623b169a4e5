// SPDX-License-Identifier: Apache-2.0
//! What is written for one Service in each pass.

use std::time::Duration;

use proxy_common::{
    Family, Protocol,
    frontend::{Frontend, FrontendKey},
};

use super::{
    super::{apply::apply, frontends::Target, outcome::ReconcileError, row::Row},
    FamilyReconciler,
};
use crate::{
    dataplane::{Dataplane, Op},
    model::ServiceName,
};

impl<F: Family> FamilyReconciler<F> {
    /// Writes all that new flows of a Service need, its marks excepted.
    pub(super) fn raise<D: Dataplane<F>>(
        &mut self,
        name: &ServiceName,
        dataplane: &mut D,
        clock: &dyn Fn() -> Duration,
    ) -> Result<(), ReconcileError> {
        let Some(entry) = self.services.get_mut(name) else {
            return Ok(());
        };
        for port in entry.plan.iter().flat_map(|plan| &plan.ports) {
            let row = entry
                .rows
                .get_or_try_insert(port.id, || self.ids.take_service(clock()).map(Row::new))?;
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
    pub(super) fn lower<D: Dataplane<F>>(
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
            _ => false,
        };
        let keys = entry.touched.iter().copied().filter(unwanted);
        let ops: Vec<_> = keys.map(|key| Op::RemoveFrontend { key }).collect();
        apply(dataplane, &ops, |op| self.frontends.commit(op))?;
        // Marks are still to be set.
        entry.touched.retain(|key| matches!(self.frontends.target(key), Target::Mark(_)));
        let mut again: Option<Duration> = None;
        for id in entry.rows.iter().map(|(id, _)| *id).collect::<Vec<_>>() {
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
    pub(super) fn mark<D: Dataplane<F>>(
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
        entry.touched = Vec::new();
        if entry.plan.is_none() {
            let _ = self.services.remove(name);
        }
        Ok(())
    }
}
