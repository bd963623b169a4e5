// SPDX-License-Identifier: Apache-2.0
//! The endpoints of a Service port: the union over its Service's EndpointSlices.

use std::collections::BTreeMap;

use proxy_common::{Family, family::Address as _};

use super::{EndpointAddress, categorize::NodeContext, unusable};
use crate::model::{Endpoint, EndpointSlice, Service, ServicePort};

/// Whose endpoints may serve a family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// The family's own.
    #[default]
    Family,
    /// Those that its sockets reach: IPv6 sockets reach IPv4 endpoints by mapped addresses (RFC
    /// 4291 section 2.5.5.2).
    Sockets,
}

/// The endpoints behind a Service port within the reach of one family, each address and port once, in
/// order. The Service's own cluster IP is none: see [`unusable`](super::unusable).
///
/// Slices know the port by its name. Where several speak of one endpoint (it moved from slice to
/// slice, or its address went to another pod while the old one terminates), one of them counts:
/// one that does not terminate before one that does, as in kube-proxy's cache of slices
/// (`addEndpoints`, Kubernetes 1.36). Between others kube-proxy's choice depends on the order in
/// which it walks over the slices; here it is ready before not, serving before not, on this node
/// before elsewhere.
#[must_use]
pub fn of_port<'a, F: Family>(
    service: &Service,
    port: &ServicePort,
    slices: &[&'a EndpointSlice],
    node: NodeContext<'_>,
    reach: Reach,
) -> Vec<(EndpointAddress<F>, &'a Endpoint)> {
    let mut union: BTreeMap<EndpointAddress<F>, &'a Endpoint> = BTreeMap::new();
    let weight = |endpoint: &Endpoint| {
        (!endpoint.terminating, endpoint.ready, endpoint.serving, node.is_local(endpoint))
    };
    for slice in slices {
        let ports = slice
            .ports
            .iter()
            .filter(|known| known.name == port.name && known.protocol == port.protocol);
        for known in ports {
            let usable = |endpoint: &&Endpoint| !unusable::is_own(service, endpoint);
            for endpoint in slice.endpoints.iter().filter(usable) {
                let address = match reach {
                    Reach::Family => F::Addr::from_ip(endpoint.address),
                    Reach::Sockets => F::Addr::reached(endpoint.address),
                };
                let Some(address) = address else {
                    continue;
                };
                let key = EndpointAddress { address, port: known.port };
                let best = union.entry(key).or_insert(endpoint);
                if weight(endpoint) > weight(best) {
                    *best = endpoint;
                }
            }
        }
    }
    union.into_iter().collect()
}
