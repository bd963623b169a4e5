// SPDX-License-Identifier: Apache-2.0
//! What EndpointSlices name as endpoints although no traffic may be sent there.
//!
//! Whoever may write an EndpointSlice could reach the node itself, or its neighbours, in the name of
//! all clients of the Service (CVE-2021-25740), and the API server refuses most such addresses. But not
//! everybody asks it: not files, nor clusters whose API was less strict once. What was sent to a
//! Service's own cluster IP would come back as a new request to it. Its external IPs and its load
//! balancer's addresses may well be those of nodes, with endpoints in the nodes' own network.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use crate::model::{Endpoint, EndpointSlice, Service};

/// Addresses that are not served, each with what it is; displayed as a part of a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unusable(BTreeMap<IpAddr, &'static str>);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The number first: the API cuts notes that are too long.
        let number = self.0.len();
        write!(f, "{number} endpoint{}: ", if number == 1 { "" } else { "s" })?;
        let parts: Vec<_> = self.0.iter().map(|(ip, what)| format!("{ip} is {what}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// The endpoints of a Service that are not served, of both families, if there are any.
pub fn unusable<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice>,
) -> Option<Unusable> {
    let mut found = BTreeMap::new();
    for slice in slices {
        found.extend(&slice.unusable);
        let own = slice.endpoints.iter().filter(|endpoint| is_own(service, endpoint));
        found.extend(own.map(|endpoint| (endpoint.address, "the Service's own cluster IP")));
    }
    (!found.is_empty()).then_some(Unusable(found))
}

/// Whether an endpoint is the Service itself.
pub(super) fn is_own(service: &Service, endpoint: &Endpoint) -> bool {
    service.cluster_ips.contains(&endpoint.address)
}
