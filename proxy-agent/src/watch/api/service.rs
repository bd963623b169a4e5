// SPDX-License-Identifier: Apache-2.0
//! Services.

use serde::Deserialize;

use super::{Metadata, Resource};
use crate::model::Kind;

/// A Service.
#[derive(Clone, Debug, Deserialize)]
pub struct Service {
    /// `metadata`.
    #[serde(default)]
    pub metadata: Metadata,
    /// `spec`.
    pub spec: Option<ServiceSpec>,
    /// `status`.
    pub status: Option<ServiceStatus>,
}

/// `spec` of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub type_: Option<String>,
    /// The first of the cluster IPs; `None` for headless Services.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// At most one for each family.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<String>>,
    /// The families of the cluster IPs, in their order.
    pub ip_families: Option<Vec<String>>,
    /// `Cluster` or `Local`.
    pub internal_traffic_policy: Option<String>,
    /// `Cluster` or `Local`.
    pub external_traffic_policy: Option<String>,
    /// Addresses that somebody sends to this node, whoever does it.
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Vec<String>>,
    /// Whose clients are served at the load balancer's addresses.
    pub load_balancer_source_ranges: Option<Vec<String>>,
    /// `None` or `ClientIP`.
    pub session_affinity: Option<String>,
    /// How long that holds.
    pub session_affinity_config: Option<SessionAffinityConfig>,
    /// Where a load balancer asks whether this node has endpoints.
    pub health_check_node_port: Option<i32>,
    /// What clients dial.
    pub ports: Option<Vec<ServicePort>>,
}

/// How long session affinity holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SessionAffinityConfig {
    /// For clients that are known by their addresses.
    #[serde(rename = "clientIP")]
    pub client_ip: Option<ClientIpConfig>,
}

/// How long a client stays with its endpoint.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientIpConfig {
    /// Seconds after its last connection.
    pub timeout_seconds: Option<i32>,
}

/// `status` of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// What its load balancer has.
    pub load_balancer: Option<LoadBalancerStatus>,
}

/// What a load balancer has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// Where it is reached.
    pub ingress: Option<Vec<Ingress>>,
}

/// Where a load balancer is reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ingress {
    /// Its address; nothing if it has a name.
    pub ip: Option<String>,
    /// `VIP` (the default): packets come to the node with this address. `Proxy`: they come with the
    /// node's.
    pub ip_mode: Option<String>,
}

/// A port of a Service.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name.
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// Its number.
    pub port: i32,
    /// Its number at the nodes' addresses; zero for none.
    pub node_port: Option<i32>,
}

impl Resource for Service {
    const KIND: Kind = Kind::Service;
    const API_VERSION: &'static str = "v1";
    const PLURAL: &'static str = "services";

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}
