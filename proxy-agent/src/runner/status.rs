// SPDX-License-Identifier: Apache-2.0
//! How things stand, as the runner tells those who wait for it.

use super::{Runner, tell};

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether all sources have said what there is.
    pub synced: bool,
    /// How many Services there are, those without an address in any family of the node included.
    pub services: usize,
    /// How many Services have something to do, now or later, counted in each family.
    pub pending: usize,
    /// How many of them, and of the families' Service CIDRs, have failed at the last attempt.
    pub failing: usize,
    /// What has failed last, as long as anything fails.
    pub last_error: Option<String>,
}

impl Runner {
    /// Tells how things stand now.
    pub(super) fn report(&mut self) {
        let failing = self.families.iter().map(|family| family.failing()).sum();
        if failing == 0 {
            self.last_error = None;
        }
        let status = Status {
            synced: self.unsynced.is_empty(),
            services: self.store.service_count(),
            pending: self.families.iter().map(|family| family.pending()).sum(),
            failing,
            last_error: self.last_error.clone(),
        };
        self.tell_known(status.services);
        tell(&self.status, status);
        self.note_health();
        if self.unsynced.is_empty() {
            let node = self.store.node();
            let addresses = node.into_iter().flat_map(|node| &node.addresses);
            tell(&self.node_addresses, Some(addresses.copied().collect()));
            let ranges = node.map(|node| node.pod_cidrs.clone()).unwrap_or_default();
            tell(&self.pod_cidrs, Some(ranges));
        }
    }
}
