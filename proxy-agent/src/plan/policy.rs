// SPDX-License-Identifier: Apache-2.0
//! Which set serves whom, and who is served at all.

use ipnet::IpNet;
use proxy_common::{Family, family::Address as _, service::Policy, service_cidr::Prefix};

use super::categorize::NodeContext;
use crate::model::{Service, TrafficPolicy, node::first_of};

/// The external traffic policy, where there is anything that it applies to: a node port, an external
/// IP or a load balancer's address.
pub(super) fn external(service: &Service, is_reached: bool) -> Option<TrafficPolicy> {
    is_reached.then_some(service.external_traffic_policy)
}

/// The ranges whose clients are served at a load balancer's address; none if all are.
///
/// They do not wait for such an address, and stay when it goes: a Service is never without them
/// while clients find the one or the other. Where one holds the node, the load balancer's addresses
/// are among them: a host that has one for its own asks itself by it, as by its own address (as in
/// kube-proxy's `syncProxyRules`, Kubernetes 1.36, where it says "VIP-like LBs").
pub(super) fn source_ranges<F: Family>(service: &Service, node: NodeContext<'_>) -> Vec<Prefix<F>> {
    let mut ranges: Vec<_> = of_family::<F>(service).copied().collect();
    if holds_node::<F>(service, node) {
        for address in &service.load_balancer_ips {
            if F::Addr::from_ip(*address).is_some()
                && !ranges.iter().any(|range| range.contains(address))
            {
                ranges.push(IpNet::from(*address));
            }
        }
    }
    ranges.iter().filter_map(prefix).collect()
}

fn of_family<F: Family>(service: &Service) -> impl Iterator<Item = &IpNet> {
    service.source_ranges.iter().filter(|range| F::Addr::from_ip(range.addr()).is_some())
}

/// Whether the node's first address of the family is in a range.
fn holds_node<F: Family>(service: &Service, node: NodeContext<'_>) -> bool {
    let own = first_of::<F>(node.addresses).map(Into::into);
    own.is_some_and(|own| of_family::<F>(service).any(|range| range.contains(&own)))
}

fn prefix<F: Family>(range: &IpNet) -> Option<Prefix<F>> {
    let address = F::Addr::from_ip(range.addr())?;
    Some(Prefix { length: range.prefix_len().into(), address })
}

/// The policy word of a Service's ports, with the external traffic policy if that applies.
pub(super) fn word<F: Family>(
    service: &Service,
    node: NodeContext<'_>,
    external: Option<TrafficPolicy>,
) -> Policy {
    let mut policy = Policy::default();
    let mut set = |is: bool, bit: Policy| {
        if is {
            policy = policy.with(bit);
        }
    };
    let local = TrafficPolicy::Local;
    set(service.internal_traffic_policy == local, Policy::INTERNAL_LOCAL);
    set(external == Some(local), Policy::EXTERNAL_LOCAL);
    set(of_family::<F>(service).next().is_some(), Policy::SOURCE_RANGES);
    set(holds_node::<F>(service, node), Policy::NODE_IN_RANGES);
    policy.with_affinity(service.affinity.map_or(0, std::num::NonZeroU32::get))
}
