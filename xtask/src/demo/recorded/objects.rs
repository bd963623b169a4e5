// SPDX-License-Identifier: Apache-2.0
//! The fields of the recorded objects that the demo needs. The crate with the whole API would
//! take longer to build than the demo runs.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use proxy_tests::family::IpFamily;
use serde::Deserialize;

use super::frontend::Frontend;

/// The label by which a Service asks for another proxy.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// The label of an `EndpointSlice` that names its Service.
pub(in super::super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label of a Node that names its zone.
const ZONE: &str = "topology.kubernetes.io/zone";

#[derive(Deserialize)]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
pub(super) struct Node {
    metadata: Metadata,
}

#[derive(Deserialize)]
pub(in super::super) struct Service {
    metadata: Metadata,
    spec: ServiceSpec,
    #[serde(default)]
    status: ServiceStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(default, rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    #[serde(default)]
    ports: Vec<ServicePort>,
    session_affinity: Option<String>,
    internal_traffic_policy: Option<String>,
    external_traffic_policy: Option<String>,
    #[serde(default, rename = "externalIPs")]
    external_ips: Vec<IpAddr>,
    #[serde(default)]
    load_balancer_source_ranges: Vec<IpNet>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceStatus {
    #[serde(default)]
    load_balancer: LoadBalancer,
}

#[derive(Default, Deserialize)]
struct LoadBalancer {
    #[serde(default)]
    ingress: Vec<Ingress>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ingress {
    ip: Option<IpAddr>,
    ip_mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct ServicePort {
    #[serde(default)]
    pub(in super::super) name: String,
    pub(in super::super) protocol: String,
    pub(in super::super) port: u16,
    pub(in super::super) node_port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    metadata: Metadata,
    pub(super) address_type: String,
    // The API writes null where there is none.
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<EndpointPort>>,
}

#[derive(Deserialize)]
pub(super) struct EndpointPort {
    #[serde(default)]
    name: String,
    pub(super) port: Option<u16>,
    pub(super) protocol: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
    pub(super) node_name: Option<String>,
    #[serde(default)]
    pub(super) hints: Hints,
}

#[derive(Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hints {
    #[serde(default)]
    pub(super) for_nodes: Vec<Hint>,
    #[serde(default)]
    pub(super) for_zones: Vec<Hint>,
}

#[derive(Deserialize)]
pub(super) struct Hint {
    pub(super) name: String,
}

impl Service {
    pub(in super::super) fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Its cluster IPs, if it is for this proxy.
    pub(in super::super) fn cluster_ips(&self) -> impl Iterator<Item = IpAddr> {
        let ours = self.is_ours();
        // Headless Services have `None` here.
        self.spec.cluster_ips.iter().filter(move |_| ours).filter_map(|ip| ip.parse().ok())
    }

    pub(in super::super) fn ports(&self) -> &[ServicePort] {
        &self.spec.ports
    }

    /// The ways by which clients outside reach one of its ports, if it is for this proxy.
    pub(in super::super) fn outside_frontends(&self, port: &ServicePort) -> Vec<Frontend> {
        let families = self.cluster_ips().map(IpFamily::of);
        let node_ports = families.filter_map(|f| Some(Frontend::NodePort(f, port.node_port?)));
        let load_balancers = self.status.load_balancer.ingress.iter().filter_map(|ingress| {
            let is_vip = ingress.ip_mode.as_deref() != Some("Proxy");
            Some(Frontend::LoadBalancer { address: ingress.ip?, is_vip })
        });
        let external_ips = self.spec.external_ips.iter().copied().map(Frontend::ExternalIp);
        let all = node_ports.chain(load_balancers).chain(external_ips);
        all.filter(|_| self.is_ours()).collect()
    }

    fn is_ours(&self) -> bool {
        !self.metadata.labels.contains_key(PROXY_NAME)
    }

    /// Whether it wants the endpoints of the asked node only.
    pub(super) fn is_local(&self, frontend: Frontend) -> bool {
        let policy = match frontend {
            Frontend::ClusterIp(_) => &self.spec.internal_traffic_policy,
            _ => &self.spec.external_traffic_policy,
        };
        policy.as_deref() == Some("Local")
    }

    /// Whether the addresses of its load balancer are for this client: ranges of the other family
    /// leave this one open.
    pub(super) fn admits(&self, client: IpAddr) -> bool {
        let ranges = &self.spec.load_balancer_source_ranges;
        let of_family = |range: &&IpNet| range.addr().is_ipv4() == client.is_ipv4();
        let mut ranges = ranges.iter().filter(of_family).peekable();
        ranges.peek().is_none() || ranges.any(|range| range.contains(&client))
    }

    /// Whether all connections of a client go to one endpoint.
    pub(in super::super) fn has_affinity(&self) -> bool {
        self.spec.session_affinity.as_deref() == Some("ClientIP")
    }
}

impl Node {
    /// Its name and zone, if it is in one.
    pub(super) fn into_zone(mut self) -> Option<(String, String)> {
        Some((self.metadata.name, self.metadata.labels.remove(ZONE)?))
    }
}

impl EndpointSlice {
    pub(super) fn endpoints(&self) -> &[Endpoint] {
        self.endpoints.as_deref().unwrap_or_default()
    }

    pub(super) fn ports(&self) -> &[EndpointPort] {
        self.ports.as_deref().unwrap_or_default()
    }

    pub(super) fn is_of(&self, service: &Service) -> bool {
        self.metadata.namespace == service.metadata.namespace
            && self.metadata.labels.get(SERVICE_NAME) == Some(&service.metadata.name)
    }
}

impl EndpointPort {
    pub(super) fn is(&self, port: &ServicePort) -> bool {
        self.name == port.name && self.protocol == port.protocol && self.port.is_some()
    }
}

impl Endpoint {
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.addresses.first()?.parse().ok()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }

    pub(super) fn is_terminating(&self) -> bool {
        self.conditions.serving.unwrap_or(true) && self.conditions.terminating.unwrap_or(false)
    }
}
