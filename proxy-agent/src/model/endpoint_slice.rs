// SPDX-License-Identifier: Apache-2.0
//! EndpointSlices.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    net::IpAddr,
    sync::Arc,
    time::SystemTime,
};

use proxy_common::{Port, Protocol};

use super::{ObjectName, ServiceName};

/// Some of the endpoints of one Service, in one family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointSlice {
    /// Its namespace and name.
    pub name: ObjectName,
    /// The Service whose endpoints these are (label `kubernetes.io/service-name`).
    pub service: ServiceName,
    /// The endpoints; all addresses are of the slice's `addressType`.
    pub endpoints: Vec<Endpoint>,
    /// The ports that each of the endpoints has.
    pub ports: Vec<EndpointPort>,
    /// Addresses that it names as endpoints although no traffic may be sent there, each with what it
    /// is. They are no [`endpoints`](Self::endpoints).
    pub unusable: BTreeMap<IpAddr, &'static str>,
    /// What made it what it is.
    pub trigger: Trigger,
}

/// The event, as of a pod, that an EndpointSlice was last changed for. It makes no slice another one: all are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trigger {
    /// When it happened (annotation `endpoints.kubernetes.io/last-change-trigger-time`), if that is told.
    pub at: Option<SystemTime>,
    /// The name of the family that the slice is of.
    pub family: &'static str,
}

impl PartialEq for Trigger {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Trigger {}

impl Hash for Trigger {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// One endpoint. What the API leaves out is filled in: ready and serving unless it says
/// otherwise, not terminating unless it says so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The first of its addresses, the only one that is used.
    pub address: IpAddr,
    /// `conditions.ready`.
    pub ready: bool,
    /// `conditions.serving`.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// The node it is on; nothing for endpoints outside of the cluster, which are never local.
    pub node: Option<Arc<str>>,
    /// `hints`, if there are any.
    pub hints: Option<Box<Hints>>,
}

/// Who should use an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    /// `forZones`: the zones.
    pub zones: Vec<Arc<str>>,
    /// `forNodes`: the nodes.
    pub nodes: Vec<Arc<str>>,
}

impl Endpoint {
    /// The zones that should use it.
    #[must_use]
    pub fn zone_hints(&self) -> &[Arc<str>] {
        self.hints.as_ref().map_or(&[], |hints| &hints.zones)
    }

    /// The nodes that should use it.
    #[must_use]
    pub fn node_hints(&self) -> &[Arc<str>] {
        self.hints.as_ref().map_or(&[], |hints| &hints.nodes)
    }
}

/// A port of the endpoints of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointPort {
    /// The name of the Service port behind which it stands.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: Port,
}
