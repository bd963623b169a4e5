// SPDX-License-Identifier: Apache-2.0
//! What is said of what is missing.

use std::time::Duration;

use proxy_common::{Family, frontend::FrontendKey};

use super::{super::outcome::ReconcileError, FamilyReconciler, passes::name_of};
use crate::dataplane::Dataplane;

/// What belongs to no Service, as people read it.
pub(super) const NODE_ADDRESSES: &str = "node addresses";
pub(super) const LEFTOVERS: &str = "leftovers";
const SERVICE_CIDRS: &str = "Service CIDRs";

impl<F: Family> FamilyReconciler<F> {
    /// Has the table of what is missing say what is now, after all else has been flushed. To be called when all plans
    /// are known: what an earlier agent has said goes. `now` is on the clock of [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// What the dataplane could not do. It is tried again after a pause.
    pub fn flush_shortfalls<D: Dataplane<F>>(
        &mut self,
        dataplane: &mut D,
        now: Duration,
    ) -> Result<(), ReconcileError> {
        self.shortfalls.flush(dataplane, now)
    }

    /// Has it said how the last attempt at Service CIDRs has ended.
    pub fn tell_service_cidrs(&mut self, outcome: &Result<(), ReconcileError>, is_failing: bool) {
        self.tell_beside(SERVICE_CIDRS, outcome, is_failing);
    }

    /// How an attempt has ended; one that was not due says nothing.
    pub(super) fn tell_beside(
        &mut self,
        what: &'static str,
        outcome: &Result<(), ReconcileError>,
        is_failing: bool,
    ) {
        if outcome.is_err() || !is_failing {
            self.shortfalls.beside(what, outcome.as_ref().err());
        }
    }

    /// Who does not have a frontend.
    pub(super) fn tell_contested(&mut self, key: FrontendKey<F>) {
        let [winner, losers @ ..] = self.frontends.claimants(&key) else {
            self.shortfalls.contest(key, "", Vec::new());
            return;
        };
        // A port that wants one for two reasons has it.
        let losers = losers
            .iter()
            .filter(|loser| (&loser.service, loser.port) != (&winner.service, winner.port));
        let named = losers.filter_map(|loser| {
            let plan = self.services.get(&loser.service)?.plan.as_ref()?;
            Some((loser.service.clone(), name_of(plan.port(loser.port)?)))
        });
        let named: Vec<_> = named.collect();
        self.shortfalls.contest(key, &winner.service.to_string(), named);
    }
}
