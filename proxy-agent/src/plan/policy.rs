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
/// while clients find the one or the other.
pub(super) fn source_ranges<F: Family>(service: &Service) -> Vec<Prefix<F>> {
    service.source_ranges.iter().filter_map(prefix).collect()
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
    if !source_ranges::<F>(service).is_empty() {
        set(true, Policy::SOURCE_RANGES);
        let own = first_of::<F>(node.addresses).map(Into::into);
        let holds = |range: &IpNet| own.is_some_and(|own| range.contains(&own));
        set(service.source_ranges.iter().any(holds), Policy::NODE_IN_RANGES);
    }
    policy.with_affinity(service.affinity.map_or(0, std::num::NonZeroU32::get))
}
