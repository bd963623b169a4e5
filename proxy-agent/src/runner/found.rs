// SPDX-License-Identifier: Apache-2.0
//! What an agent before has left.

use std::collections::BTreeSet;

use super::Runner;

/// How much was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many Services have frontends, in whichever family.
    pub services: usize,
    /// How many frontends these have, in all families.
    pub frontends: usize,
}

impl Runner {
    /// What was found in the tables of the families that are served so far, and serves on. To be called before
    /// [`run`](Self::run).
    #[must_use]
    pub fn found(&self) -> Found {
        let mut services = BTreeSet::new();
        let mut frontends = 0;
        for (service, own) in self.families.iter().flat_map(|family| family.adopted()) {
            let _: bool = services.insert(service);
            frontends += own;
        }
        Found { services: services.len(), frontends }
    }
}
