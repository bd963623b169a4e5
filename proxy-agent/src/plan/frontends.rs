// SPDX-License-Identifier: Apache-2.0
//! What clients dial to reach a Service port.

use std::net::IpAddr;

use proxy_common::{
    Family,
    family::Address as _,
    frontend::{FrontendKey, FrontendKind},
};

use super::ExternalIps;
use crate::model::{Service, ServicePort};

/// The frontends of a port that its cluster IP has: that first, then those of the outside. An address
/// that the Service has for several reasons is one frontend: a load balancer's rather than an
/// external IP, since source ranges apply to the former.
pub(super) fn of_port<F: Family>(
    service: &Service,
    port: &ServicePort,
    vip: F::Addr,
    admitted: &ExternalIps,
) -> Vec<(FrontendKey<F>, FrontendKind)> {
    let at = |address| FrontendKey::new(address, port.port, port.protocol);
    let of_family = |ip: &IpAddr| F::Addr::from_ip(*ip).map(at);
    let node_port = port.node_port.map(|port_number| {
        (FrontendKey::node_port(port_number, port.protocol), FrontendKind::NodePort)
    });
    let load_balancer = service.load_balancer_ips.iter().filter_map(of_family);
    let external = service.external_ips.iter().filter(|ip| admitted.admit(**ip));
    let external = external.filter_map(of_family);
    let mut frontends = vec![(at(vip), FrontendKind::ClusterIp)];
    let others = node_port
        .into_iter()
        .chain(load_balancer.map(|key| (key, FrontendKind::LoadBalancer)))
        .chain(external.map(|key| (key, FrontendKind::ExternalIp)));
    for (key, kind) in others {
        if frontends.iter().all(|(other, _)| *other != key) {
            frontends.push((key, kind));
        }
    }
    frontends
}
