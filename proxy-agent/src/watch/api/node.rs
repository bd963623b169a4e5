// SPDX-License-Identifier: Apache-2.0
//! Nodes and Service CIDRs: what belongs to no namespace.

use serde::Deserialize;

use super::{Metadata, Resource};
use crate::model::Kind;

/// A Node.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    /// `metadata`.
    #[serde(default)]
    pub metadata: Metadata,
    /// `spec`.
    pub spec: Option<NodeSpec>,
    /// `status`.
    pub status: Option<NodeStatus>,
}

/// `spec` of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// The first of the ranges of its pods.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    /// At most one for each family.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Option<Vec<String>>,
    /// What keeps pods away.
    pub taints: Option<Vec<Taint>>,
}

/// What keeps pods away from a Node.
#[derive(Clone, Debug, Deserialize)]
pub struct Taint {
    /// Which it is.
    pub key: String,
}

/// `status` of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its addresses and names.
    pub addresses: Option<Vec<NodeAddress>>,
}

/// An address or a name of a Node.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeAddress {
    /// Which of both, and for whom: `InternalIP`, `Hostname` and so on.
    #[serde(rename = "type")]
    pub type_: String,
    /// The address or name.
    pub address: String,
}

impl Resource for Node {
    const KIND: Kind = Kind::Node;
    const API_VERSION: &'static str = "v1";
    const PLURAL: &'static str = "nodes";

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// A `ServiceCIDR`.
#[derive(Clone, Debug, Deserialize)]
pub struct ServiceCidr {
    /// `metadata`.
    #[serde(default)]
    pub metadata: Metadata,
    /// `spec`.
    pub spec: Option<ServiceCidrSpec>,
}

/// `spec` of a `ServiceCIDR`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceCidrSpec {
    /// Its ranges, each as an address and a prefix length.
    pub cidrs: Option<Vec<String>>,
}

impl Resource for ServiceCidr {
    const KIND: Kind = Kind::ServiceCidr;
    const API_VERSION: &'static str = "networking.k8s.io/v1";
    const PLURAL: &'static str = "servicecidrs";

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}
