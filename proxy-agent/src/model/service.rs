// SPDX-License-Identifier: Apache-2.0
//! Services.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc};

use ipnet::IpNet;
use proxy_common::{Family, Port, Protocol, family::Address as _};

use super::ServiceName;

/// A Service that has a cluster IP. (Headless ones and external names never get here.) Its type does
/// not show: what a Service of its type does not have is not here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Service {
    /// Its namespace and name.
    pub name: ServiceName,
    /// `metadata.uid`; empty in hand-written objects.
    pub uid: Arc<str>,
    /// `metadata.creationTimestamp` in seconds of Unix time; nothing in hand-written objects.
    pub created: Option<i64>,
    /// `spec.clusterIPs`, at most one per family.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`, of both families.
    pub external_ips: Vec<IpAddr>,
    /// The addresses of `status.loadBalancer.ingress` to which packets come unchanged (`ipMode: VIP`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`, with zeros behind their prefixes. A family without one is not
    /// restricted.
    pub source_ranges: Vec<IpNet>,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`, of Services that can be reached from outside by their type or
    /// external IPs; `Cluster` for the others.
    pub external_traffic_policy: TrafficPolicy,
    /// `spec.sessionAffinity: ClientIP`: for how many seconds after its last connection a client
    /// stays with its endpoint.
    pub affinity: Option<NonZeroU32>,
    /// `spec.healthCheckNodePort`, of load balancers with `externalTrafficPolicy: Local`.
    pub health_check_node_port: Option<Port>,
    /// `spec.ports`; no two with one number and protocol, none with one name and protocol.
    pub ports: Vec<ServicePort>,
}

impl Service {
    /// Its `metadata.uid`, if it has one.
    #[must_use]
    pub fn known_uid(&self) -> Option<Arc<str>> {
        (!self.uid.is_empty()).then(|| Arc::clone(&self.uid))
    }

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
    /// The port that clients dial at the node's addresses, if the Service's type has any.
    pub node_port: Option<Port>,
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
