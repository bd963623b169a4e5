// SPDX-License-Identifier: Apache-2.0
//! Services whose policy keeps them from the endpoints that they have: all of these are on other nodes.

use std::collections::HashMap;

use proxy_common::{
    Family,
    service::{EmptySet, Policy},
};

use crate::{
    model::ServiceName,
    plan::{ServicePlan, SetPlan},
};

/// How many Service ports with a Local policy have ready endpoints, but none on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Remote {
    /// Those with an internal one.
    pub(super) internal: usize,
    /// Those with an external one.
    pub(super) external: usize,
}

impl Remote {
    /// The ports of a Service.
    pub(super) fn of<F: Family>(plan: &ServicePlan<F>) -> Self {
        let without = || {
            let ports = plan.ports.iter();
            ports.filter(|port| port.local == Some(SetPlan::Empty(EmptySet::Drop)))
        };
        let with = |policy| without().filter(|port| port.policy.has(policy)).count();
        Self { internal: with(Policy::INTERNAL_LOCAL), external: with(Policy::EXTERNAL_LOCAL) }
    }
}

/// Those of all Services.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    /// Of each Service that has any.
    of: HashMap<ServiceName, Remote>,
    total: Remote,
}

impl Remotes {
    /// A Service has so many now.
    pub(super) fn note(&mut self, service: &ServiceName, now: Remote) {
        let before = if now == Remote::default() {
            self.of.remove(service)
        } else {
            self.of.insert(service.clone(), now)
        };
        let before = before.unwrap_or_default();
        let total = &mut self.total;
        total.internal = total.internal + now.internal - before.internal;
        total.external = total.external + now.external - before.external;
    }

    /// All of them.
    pub(super) const fn total(&self) -> Remote {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_count_as_they_are_now() {
        let [a, b] = ["a", "b"].map(|name| ServiceName::new("ns", name));
        let mut remotes = Remotes::default();
        let remote = |internal, external| Remote { internal, external };
        remotes.note(&a, remote(1, 2));
        remotes.note(&b, remote(0, 1));
        assert_eq!(remotes.total(), remote(1, 3));
        remotes.note(&a, remote(0, 1));
        assert_eq!(remotes.total(), remote(0, 2));
        remotes.note(&b, remote(0, 0));
        assert_eq!((remotes.total(), remotes.of.len()), (remote(0, 1), 1));
    }
}
