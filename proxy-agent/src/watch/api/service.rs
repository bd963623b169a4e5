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
    /// What clients dial.
    pub ports: Option<Vec<ServicePort>>,
}

/// A port of a Service.
#[derive(Clone, Debug, Deserialize)]
pub struct ServicePort {
    /// Its name.
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// Its number.
    pub port: i32,
}

impl Resource for Service {
    const KIND: Kind = Kind::Service;
    const API_VERSION: &'static str = "v1";
    const PLURAL: &'static str = "services";

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}
