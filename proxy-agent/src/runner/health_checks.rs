// SPDX-License-Identifier: Apache-2.0
//! What health checks of load balancers are answered, kept as Services and endpoints change.

use std::collections::BTreeSet;

use tokio::sync::watch;

use super::Runner;
use crate::{
    health_check::{HealthCheck, HealthChecks, LocalEndpoints},
    model::ServiceName,
};

impl Runner {
    /// What health checks are to be answered, now and whenever that changes.
    #[must_use]
    pub fn health_checks(&self) -> watch::Receiver<HealthChecks> {
        self.health_checks.subscribe()
    }

    /// Counts anew for Services that may have changed.
    pub(super) fn count_endpoints(&self, changed: &BTreeSet<ServiceName>) {
        let found = changed.iter().map(|name| (name, self.health_check(name)));
        let found: Vec<_> = found.collect();
        let _ = self.health_checks.send_if_modified(|known| {
            let same = |(name, check): &&(_, _)| known.get(*name) == Option::as_ref(check);
            if found.iter().all(|entry| same(&entry)) {
                return false;
            }
            for (name, check) in found {
                match check {
                    Some(check) => drop(known.insert(name.clone(), check)),
                    None => drop(known.remove(name)),
                }
            }
            true
        });
    }

    fn health_check(&self, name: &ServiceName) -> Option<HealthCheck> {
        let service = self.store.service(name)?;
        let port = service.health_check_node_port?.number();
        let mut local_endpoints = LocalEndpoints::default();
        for family in &self.families {
            local_endpoints = family.count(&self.store, name, local_endpoints);
        }
        Some(HealthCheck { port, uid: service.known_uid(), local_endpoints })
    }
}
