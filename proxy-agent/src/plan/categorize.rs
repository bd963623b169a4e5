// SPDX-License-Identifier: Apache-2.0
//! Which endpoints serve whom, exactly as kube-proxy decides it (`CategorizeEndpoints` and
//! `topologyModeFromHints` in `pkg/proxy/topology.go`, Kubernetes 1.36).

use std::net::IpAddr;

use crate::model::{Endpoint, TrafficPolicy};

/// What of the own Node bears on the choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeContext<'a> {
    /// The Node's name.
    pub name: &'a str,
    /// The Node's zone, if it is known.
    pub zone: Option<&'a str>,
    /// The Node's addresses; the first of a family is its own there.
    pub addresses: &'a [IpAddr],
}

impl NodeContext<'_> {
    /// Whether an endpoint is on this node.
    #[must_use]
    pub fn is_local(&self, endpoint: &Endpoint) -> bool {
        endpoint.node.as_deref() == Some(self.name)
    }
}

/// Which sets the traffic policies of a Service port ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The endpoints of all nodes.
    pub cluster: bool,
    /// The endpoints of this node.
    pub local: bool,
}

impl Demand {
    /// What a port needs by `internalTrafficPolicy`, and by `externalTrafficPolicy` if it can be
    /// reached from outside (it has a node port, a load balancer's address or an external IP).
    /// Such a port needs the cluster set whatever its policies say: this node's own clients are
    /// served from it.
    #[must_use]
    pub fn of(internal: TrafficPolicy, external: Option<TrafficPolicy>) -> Self {
        Self {
            cluster: internal == TrafficPolicy::Cluster || external.is_some(),
            local: internal == TrafficPolicy::Local || external == Some(TrafficPolicy::Local),
        }
    }
}

/// Indices of endpoints, in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Categories {
    /// Those of all nodes, if they were asked for.
    pub cluster: Option<Vec<usize>>,
    /// Those of this node, if they were asked for.
    pub local: Option<Vec<usize>>,
    /// Whether any node has an endpoint that could be used.
    pub any_usable: bool,
}

/// Sorts the endpoints of a Service port.
///
/// The cluster set holds the ready endpoints that the topology hints leave; the local set the
/// ready ones of this node, whatever the hints say. Each falls back, by itself, to those that
/// terminate but still serve, if there is no ready one.
#[must_use]
pub fn categorize(endpoints: &[&Endpoint], demand: Demand, node: NodeContext<'_>) -> Categories {
    let select = |wanted: &dyn Fn(&Endpoint) -> bool| -> Vec<usize> {
        (0..endpoints.len()).filter(|at| wanted(endpoints[*at])).collect()
    };
    let ready_or_draining = |wanted: &dyn Fn(&Endpoint) -> bool,
                             draining: &dyn Fn(&Endpoint) -> bool| {
        let ready = select(&|endpoint| endpoint.ready && wanted(endpoint));
        if ready.is_empty() {
            select(&|endpoint| is_draining(endpoint) && draining(endpoint))
        } else {
            ready
        }
    };
    let local = |endpoint: &Endpoint| node.is_local(endpoint);
    let topology = Topology::from_hints(endpoints, node);
    Categories {
        cluster: demand
            .cluster
            .then(|| ready_or_draining(&|endpoint| topology.admits(endpoint, node), &|_| true)),
        local: demand.local.then(|| ready_or_draining(&local, &local)),
        any_usable: endpoints.iter().any(|endpoint| endpoint.ready || is_draining(endpoint)),
    }
}

/// Whether an endpoint is used where no ready one is left.
fn is_draining(endpoint: &Endpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

/// Which of the hints apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology {
    SameNode,
    SameZone,
    Anywhere,
}

impl Topology {
    /// A kind of hint applies if every ready endpoint has one of that kind and at least one names
    /// this node or its zone; node hints come first.
    fn from_hints(endpoints: &[&Endpoint], node: NodeContext<'_>) -> Self {
        let ready = || endpoints.iter().filter(|endpoint| endpoint.ready);
        let applies = |mode: Self| {
            ready().all(|endpoint| !mode.hints(endpoint).is_empty())
                && ready().any(|endpoint| mode.admits(endpoint, node))
        };
        if applies(Self::SameNode) {
            Self::SameNode
        } else if applies(Self::SameZone) {
            Self::SameZone
        } else {
            Self::Anywhere
        }
    }

    fn hints(self, endpoint: &Endpoint) -> &[std::sync::Arc<str>] {
        match self {
            Self::SameNode => endpoint.node_hints(),
            Self::SameZone => endpoint.zone_hints(),
            Self::Anywhere => &[],
        }
    }

    fn admits(self, endpoint: &Endpoint, node: NodeContext<'_>) -> bool {
        let here = match self {
            Self::SameNode => Some(node.name),
            Self::SameZone => node.zone,
            Self::Anywhere => return true,
        };
        here.is_some_and(|here| self.hints(endpoint).iter().any(|hint| **hint == *here))
    }
}

#[cfg(test)]
mod tests;
