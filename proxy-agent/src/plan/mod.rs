// SPDX-License-Identifier: Apache-2.0
//! Says what the tables must hold for one Service, in one family. Pure: the same objects give the
//! same plan, in the same order.
//!
//! A plan names endpoints and frontends, not rows of tables: which rows they get is
//! [`reconcile`](crate::reconcile)'s to decide, and to keep.

pub mod categorize;
pub mod endpoints;
pub mod external_ips;
mod frontends;
pub mod node_ports;
mod policy;
mod ready_here;
mod unusable;

pub use endpoints::Reach;
pub use external_ips::ExternalIps;
pub use node_ports::{NodePortAddresses, health_check_addresses, node_port_addresses};
pub use ready_here::ready_here;
pub use unusable::{Unusable, unusable};

use std::{collections::BTreeSet, sync::Arc};

use proxy_common::{
    Family, Port, Protocol,
    frontend::{FrontendKey, FrontendKind},
    service::{EmptySet, Policy},
    service_cidr::Prefix,
};

use self::categorize::{Categories, Demand, NodeContext, categorize};
use crate::model::{EndpointSlice, Service, ServiceName, ServicePort, ServicePortName};

/// What the administrator of the node has decided about all Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whose endpoints may serve a family.
    pub reach: Reach,
    /// Which external IPs are served.
    pub external_ips: ExternalIps,
    /// At which of the node's addresses node ports are served.
    pub node_ports: NodePortAddresses,
}

/// What one Service needs in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlan<F: Family> {
    /// The Service.
    pub service: ServiceName,
    /// When it was created (Unix time in seconds): of two Services that want one frontend the
    /// older gets it.
    pub created: Option<i64>,
    /// Which object it is; of two equally old Services the first by this gets it.
    pub uid: Arc<str>,
    /// Addresses of which every other port is refused.
    pub vips: Vec<F::Addr>,
    /// Its ports, by number and protocol.
    pub ports: Vec<PortPlan<F>>,
}

/// What one Service port needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan<F: Family> {
    /// What it is, for as long as clients may dial it.
    pub id: PortId,
    /// What it is called.
    pub name: ServicePortName,
    /// What clients dial, each once.
    pub frontends: Vec<(FrontendKey<F>, FrontendKind)>,
    /// All endpoints that serve, by address and port, also those that no set holds at present: a
    /// flow that has one of them keeps it.
    pub serving: Vec<EndpointAddress<F>>,
    /// Those of them that are on this node.
    pub on_node: BTreeSet<EndpointAddress<F>>,
    /// The endpoints of all nodes that are eligible here, if a policy wants them.
    pub cluster: Option<SetPlan<F>>,
    /// The endpoints of this node, if a policy wants them.
    pub local: Option<SetPlan<F>>,
    /// Which set serves whom, and for how long clients stay with their endpoints.
    pub policy: Policy,
    /// Whose clients are served at the load balancer's addresses, as soon as there are any, with zeros
    /// behind the prefixes; all if there is none. None of these is there twice.
    pub source_ranges: Vec<Prefix<F>>,
    /// Whether the sets hold endpoints that sockets reach and packets do not
    /// ([`Reach::Sockets`]).
    pub sockets_only: bool,
}

/// A Service port among the ports of its Service: what clients see of it. A port that is renamed
/// is the same one, so that its row, its endpoints and its flows stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId {
    /// The number that clients dial.
    pub number: Port,
    /// The protocol.
    pub protocol: Protocol,
}

/// Where an endpoint listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointAddress<F: Family> {
    /// Its address.
    pub address: F::Addr,
    /// Its port.
    pub port: Port,
}

/// What a backend set must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetPlan<F: Family> {
    /// These endpoints, at least one, by address and port.
    Endpoints(Vec<EndpointAddress<F>>),
    /// None, and what becomes of new flows.
    Empty(EmptySet),
}

/// Plans a Service in one family; nothing if it has no cluster IP there. With [`Reach::Sockets`], a
/// port without an endpoint of the family that could be used is served by those that its sockets
/// reach.
#[must_use]
pub fn plan<F: Family>(
    service: &Service,
    slices: &[&EndpointSlice],
    node: NodeContext<'_>,
    options: &Options,
) -> Option<ServicePlan<F>> {
    let vip = service.cluster_ip::<F>()?;
    let mut ports: Vec<_> = service
        .ports
        .iter()
        .map(|port| plan_port(service, port, vip, slices, node, options))
        .collect();
    ports.sort_by_key(|port| port.id);
    Some(ServicePlan {
        service: service.name.clone(),
        created: service.created,
        uid: Arc::clone(&service.uid),
        vips: vec![vip],
        ports,
    })
}

fn plan_port<F: Family>(
    service: &Service,
    port: &ServicePort,
    vip: F::Addr,
    slices: &[&EndpointSlice],
    node: NodeContext<'_>,
    options: &Options,
) -> PortPlan<F> {
    let frontends = frontends::of_port::<F>(service, port, vip, &options.external_ips);
    let is_reached = frontends.iter().any(|(_, kind)| *kind != FrontendKind::ClusterIp);
    let external = policy::external(service, is_reached);
    let demand = Demand::of(service.internal_traffic_policy, external);
    let within = |reach| {
        let candidates = endpoints::of_port::<F>(service, port, slices, node, reach);
        let endpoints: Vec<_> = candidates.iter().map(|(_, endpoint)| *endpoint).collect();
        let categories = categorize(&endpoints, demand, node);
        (candidates, categories)
    };
    let (mut candidates, mut categories) = within(Reach::Family);
    let mut sockets_only = false;
    if options.reach == Reach::Sockets && !categories.any_usable {
        (candidates, categories) = within(Reach::Sockets);
        sockets_only = categories.any_usable;
    }
    let set = |members: &Option<Vec<usize>>| {
        let addresses = members.as_ref()?.iter().map(|at| candidates[*at].0);
        Some(SetPlan::new(addresses.collect(), &categories))
    };
    let serving = || candidates.iter().filter(|(_, endpoint)| endpoint.ready || endpoint.serving);
    let mut addresses: Vec<_> = serving().map(|(address, _)| *address).collect();
    addresses.shrink_to_fit();
    let on_node = serving().filter(|(_, endpoint)| node.is_local(endpoint));
    PortPlan {
        id: PortId { number: port.port, protocol: port.protocol },
        name: ServicePortName {
            service: service.name.clone(),
            port: port.name.clone(),
            protocol: port.protocol,
        },
        frontends,
        cluster: set(&categories.cluster),
        local: set(&categories.local),
        serving: addresses,
        on_node: on_node.map(|(address, _)| *address).collect(),
        policy: policy::word::<F>(service, node, external),
        source_ranges: policy::source_ranges(service, node),
        sockets_only,
    }
}

impl<F: Family> ServicePlan<F> {
    /// One of its ports.
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&PortPlan<F>> {
        let at = self.ports.binary_search_by_key(&id, |port| port.id).ok()?;
        Some(&self.ports[at])
    }
}

impl<F: Family> SetPlan<F> {
    /// A set of these endpoints. If there are none, new flows are refused where the Service has
    /// none at all, and dropped where only a policy keeps them from those that it has.
    fn new(members: Vec<EndpointAddress<F>>, categories: &Categories) -> Self {
        if !members.is_empty() {
            Self::Endpoints(members)
        } else if categories.any_usable {
            Self::Empty(EmptySet::Drop)
        } else {
            Self::Empty(EmptySet::Reject)
        }
    }
}

#[cfg(test)]
mod tests;
