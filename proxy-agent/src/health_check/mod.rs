// SPDX-License-Identifier: Apache-2.0
//! The health checks of load balancers: whether this node has endpoints for a Service.
//!
//! A Service of type LoadBalancer with `externalTrafficPolicy: Local` has a port of its own for them
//! (`spec.healthCheckNodePort`). On each node an HTTP server answers there, in each family of the
//! Service, whatever the method and the path: 200 if the node has endpoints that are ready, and the
//! proxy itself is well, and 503 if not. The answers are kube-proxy's
//! (`pkg/proxy/healthcheck/service_health.go`).
//!
//! The ports are open to everybody who reaches the node. So connections that are slow or too many
//! are closed, the oldest first, and what is sent with a request is not read.

mod answer;
mod failing;
mod listener;
mod server;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use proxy_common::{Family, V4, V6};

pub use self::server::Server;
use crate::model::ServiceName;

/// The Services that health checks are answered for.
pub type HealthChecks = BTreeMap<ServiceName, HealthCheck>;

/// What is to be answered for a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `spec.healthCheckNodePort`; 0, as in the API, is none, and nobody is answered.
    pub port: u16,
    /// The Service's `metadata.uid`, for Events about it.
    pub uid: Option<Arc<str>>,
    /// What the node has for it.
    pub local_endpoints: LocalEndpoints,
}

/// How many distinct addresses the ready endpoints of a Service have on this node, in each family
/// that the Service has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalEndpoints {
    counts: [Option<usize>; 2],
}

impl LocalEndpoints {
    /// The same, for a Service that has this family, too.
    #[must_use]
    pub const fn with<F: Family>(mut self, count: usize) -> Self {
        self.counts[F::INDEX as usize] = Some(count);
        self
    }

    /// How many there are in the family of an address; nothing if the Service does not have it.
    const fn in_family_of(&self, address: IpAddr) -> Option<usize> {
        self.counts[if address.is_ipv4() { V4::INDEX } else { V6::INDEX } as usize]
    }
}
