// SPDX-License-Identifier: Apache-2.0
//! What a load balancer that asks for this node's health is told.

use std::collections::BTreeSet;

use proxy_common::Family;

use super::{Reach, categorize::NodeContext, endpoints};
use crate::model::{EndpointSlice, Service};

/// How many distinct addresses the ready endpoints of a Service have on this node, in one family
/// (kube-proxy's `LocalReadyEndpoints`); nothing where the Service has no cluster IP. Endpoints that
/// terminate are not ready.
#[must_use]
pub fn ready_here<F: Family>(
    service: &Service,
    slices: &[&EndpointSlice],
    node: NodeContext<'_>,
) -> Option<usize> {
    let _ = service.cluster_ip::<F>()?;
    let endpoints = service
        .ports
        .iter()
        .flat_map(|port| endpoints::of_port::<F>(service, port, slices, node, Reach::Family));
    let ready = endpoints.filter(|(_, endpoint)| endpoint.ready && node.is_local(endpoint));
    let addresses: BTreeSet<_> = ready.map(|(at, _)| at.address).collect();
    Some(addresses.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proxy_common::{Port, Protocol, V4, V6};

    use super::*;
    use crate::model::{Endpoint, EndpointPort, ObjectName, ServicePort, Trigger};

    fn endpoint(address: &str, ready: bool, node: &str) -> Endpoint {
        Endpoint {
            address: address.parse().unwrap(),
            ready,
            serving: true,
            terminating: !ready,
            node: Some(node.into()),
            hints: None,
        }
    }

    /// What is counted for two ports whose endpoints are these.
    fn count<F: Family>(cluster_ip: &str, endpoints: &[(&str, bool, &str)]) -> Option<usize> {
        let names = ["http", "https"];
        let service = Service {
            cluster_ips: vec![cluster_ip.parse().unwrap()],
            ports: names
                .map(|name| ServicePort {
                    name: name.into(),
                    protocol: Protocol::TCP,
                    port: Port::new(80),
                    node_port: None,
                })
                .to_vec(),
            ..Service::default()
        };
        let slice = EndpointSlice {
            name: ObjectName::new("ns", "web-1"),
            service: ObjectName::new("ns", "web"),
            endpoints: endpoints.iter().map(|(at, ready, on)| endpoint(at, *ready, on)).collect(),
            ports: [("http", 8080), ("https", 8443)]
                .map(|(name, port)| EndpointPort {
                    name: name.into(),
                    protocol: Protocol::TCP,
                    port: Port::new(port),
                })
                .to_vec(),
            unusable: BTreeMap::new(),
            trigger: Trigger::default(),
        };
        let node = NodeContext { name: "me", ..NodeContext::default() };
        ready_here::<F>(&service, &[&slice], node)
    }

    #[test]
    fn ready_endpoints_here_count_once() {
        let v4 = [
            ("10.1.0.1", true, "me"),
            ("10.1.0.2", true, "me"),
            ("10.1.0.3", false, "me"),
            ("10.1.0.4", true, "you"),
        ];
        assert_eq!(count::<V4>("10.0.0.1", &v4), Some(2));
        assert_eq!(count::<V6>("10.0.0.1", &v4), None, "it does not have the family");
        let v6 = [("fd00::1", true, "me"), ("fd00::2", false, "me"), ("fd00::3", true, "you")];
        assert_eq!(count::<V6>("fd00:1::1", &v6), Some(1));
        assert_eq!(count::<V6>("fd00:1::1", &[]), Some(0));
        assert_eq!(count::<V4>("10.0.0.1", &v6), Some(0));
    }
}
