// SPDX-License-Identifier: Apache-2.0
//! Who must answer.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use super::{
    Frontend, Recorded, Way,
    objects::{Endpoint, EndpointSlice, Hint},
};

/// What must happen to a new connection that comes to some node, or begins there.
pub(in super::super) enum Expected {
    /// One of these pods answers.
    Served(BTreeSet<IpAddr>),
    /// It is refused: the Service has no endpoint.
    Refused,
    /// Nobody answers.
    Dropped(Cause),
}

/// Why nobody answers.
#[derive(Clone, Copy)]
pub(in super::super) enum Cause {
    /// There are endpoints, but the Service wants the node's only.
    NoneHere,
    /// The client is in none of the source ranges.
    OutOfRange,
    /// The address is the load balancer's own to serve, and there is none here.
    NotServed,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoneHere => "no endpoint on this node",
            Self::OutOfRange => "not in the source ranges",
            Self::NotServed => "not for nodes to serve",
        })
    }
}

impl Recorded {
    /// What must happen to a connection to a Service's port, of a client on `node` or of one outside
    /// that asks there, by the rules of kube-proxy: ready endpoints, else those that still serve
    /// while they terminate; of them the node's own where the Service wants that, and those that
    /// hints give to this node or its zone where all have hints. Load balancers' addresses are
    /// served where packets come to them unchanged, to clients within the source ranges.
    ///
    /// Written for the demo alone: to ask the agent's planner would be to let it judge itself.
    pub(in super::super) fn expected(
        &self,
        &Way { service, port, frontend }: &Way<'_>,
        client: IpAddr,
        node: &str,
    ) -> Expected {
        if let Frontend::LoadBalancer { is_vip, .. } = frontend {
            if !is_vip {
                return Expected::Dropped(Cause::NotServed);
            }
            if !service.admits(client) {
                return Expected::Dropped(Cause::OutOfRange);
            }
        }
        let family = frontend.family().name();
        let endpoints: Vec<_> = self
            .slices
            .iter()
            .filter(|slice| slice.is_of(service) && slice.address_type == family)
            .filter(|slice| slice.ports().iter().any(|other| other.is(port)))
            .flat_map(EndpointSlice::endpoints)
            .collect();
        let local = service.is_local(frontend);
        let those = |condition: fn(&Endpoint) -> bool| {
            let near = |e: &&Endpoint| !local || e.node_name.as_deref() == Some(node);
            endpoints.iter().copied().filter(|e| condition(e)).filter(near).collect::<Vec<_>>()
        };
        let mut chosen = those(Endpoint::is_ready);
        if !local {
            chosen = self.hinted(chosen, node);
        }
        if chosen.is_empty() {
            chosen = those(Endpoint::is_terminating);
        }
        match chosen.into_iter().filter_map(Endpoint::address).collect::<BTreeSet<_>>() {
            chosen if !chosen.is_empty() => Expected::Served(chosen),
            _ if !endpoints.iter().any(|e| e.is_ready()) => Expected::Refused,
            _ => Expected::Dropped(Cause::NoneHere),
        }
    }

    /// Those of `ready` that the hints give to `node`, or all where hints do not apply.
    fn hinted<'a>(&self, ready: Vec<&'a Endpoint>, node: &str) -> Vec<&'a Endpoint> {
        let zone = self.zones.get(node).map_or("", String::as_str);
        let node_hints: fn(&Endpoint) -> &[Hint] = |endpoint| &endpoint.hints.for_nodes;
        let zone_hints: fn(&Endpoint) -> &[Hint] = |endpoint| &endpoint.hints.for_zones;
        for (hints, name) in [(node_hints, node), (zone_hints, zone)] {
            let for_us = |endpoint: &&&Endpoint| hints(endpoint).iter().any(|h| h.name == name);
            if ready.iter().all(|endpoint| !hints(endpoint).is_empty())
                && ready.iter().any(|endpoint| for_us(&endpoint))
            {
                return ready.iter().filter(for_us).copied().collect();
            }
        }
        ready
    }
}
