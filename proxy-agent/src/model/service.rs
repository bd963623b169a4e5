// SPDX-License-Identifier: Apache-2.0
//! Services.

use std::{net::IpAddr, sync::Arc};

use proxy_common::{Family, Port, Protocol, family::Address as _};

use super::ServiceName;

/// A Service that has a cluster IP. (Headless ones and external names never get here.)
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// Its namespace and name.
    pub name: ServiceName,
    /// `metadata.creationTimestamp` in seconds of Unix time; nothing in hand-written objects.
    pub created: Option<i64>,
    /// `spec.clusterIPs`, at most one per family.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic_policy: TrafficPolicy,
    /// `spec.ports`; no two with one number and protocol, none with one name and protocol.
    pub ports: Vec<ServicePort>,
}

impl Service {
    /// The cluster IP of a family.
    #[must_use]
    pub fn cluster_ip<F: Family>(&self) -> Option<F::Addr> {
        self.cluster_ips.iter().find_map(|ip| F::Addr::from_ip(*ip))
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// The name that EndpointSlices know it by; empty where the only port has none.
    pub name: Arc<str>,
    /// The protocol: TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The port that clients dial.
    pub port: Port,
}

/// Which endpoints a client may be sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TrafficPolicy {
    /// Those of all nodes.
    #[default]
    Cluster,
    /// Those of this node only.
    Local,
}
