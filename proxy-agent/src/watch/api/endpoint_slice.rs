// SPDX-License-Identifier: Apache-2.0
//! `EndpointSlice`s.

use serde::Deserialize;

use super::{Metadata, Resource};
use crate::model::Kind;

/// An `EndpointSlice`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// `metadata`.
    #[serde(default)]
    pub metadata: Metadata,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// The endpoints.
    pub endpoints: Option<Vec<Endpoint>>,
    /// The ports that each of them has.
    pub ports: Option<Vec<EndpointPort>>,
}

/// An endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its addresses, of which only the first is used.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// How it is.
    pub conditions: Option<Conditions>,
    /// The node that it is on.
    pub node_name: Option<String>,
    /// Who should use it.
    pub hints: Option<Hints>,
}

/// How an endpoint is.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Whether it takes new connections.
    pub ready: Option<bool>,
    /// Whether it would, were it not terminating.
    pub serving: Option<bool>,
    /// Whether it is terminating.
    pub terminating: Option<bool>,
}

/// Who should use an endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    /// The zones.
    pub for_zones: Option<Vec<Hint>>,
    /// The nodes.
    pub for_nodes: Option<Vec<Hint>>,
}

/// A zone or a node.
#[derive(Clone, Debug, Deserialize)]
pub struct Hint {
    /// Its name.
    pub name: String,
}

/// A port of the endpoints.
#[derive(Clone, Debug, Deserialize)]
pub struct EndpointPort {
    /// The name of the Service port.
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// Its number; nothing for all ports.
    pub port: Option<i32>,
}

impl Resource for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;
    const API_VERSION: &'static str = "discovery.k8s.io/v1";
    const PLURAL: &'static str = "endpointslices";

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}
