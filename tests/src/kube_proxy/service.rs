// SPDX-License-Identifier: Apache-2.0
//! What kube-proxy is told, in one family.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::{
    family::{DualAddress, IpFamily},
    protocol::Protocol,
};
use ipnet::IpNet;

/// What kube-proxy's configuration and the cluster say of a node, in the family of its address.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Where it serves node ports: its primary address.
    pub address: IpAddr,
    /// The cluster's pods, `clusterCIDR` of the configuration: who is outside is masqueraded.
    pub pods: IpNet,
    /// The Service CIDR.
    pub services: IpNet,
}

impl Node {
    /// A node of the networks that are measured, with ranges that hold all their pods and as many
    /// Services as Kubernetes allows.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        let family = IpFamily::of(address);
        let net = |start: DualAddress, [v4, v6]: [u8; 2]| {
            let length = if family == IpFamily::V4 { v4 } else { v6 };
            IpNet::new_assert(start.of(family), length).trunc()
        };
        Self {
            address,
            pods: net(DualAddress::pod(1, 0), [16, 56]),
            services: net(DualAddress::cluster_ip(0), [12, 108]),
        }
    }

    /// The family that rules for it are of.
    pub(super) const fn family(&self) -> IpFamily {
        IpFamily::of(self.address)
    }
}

/// One port of a Service of type ClusterIP, without session affinity, and its endpoints.
#[derive(Clone, Debug)]
pub struct ServicePort {
    /// The namespace of the Service.
    pub namespace: String,
    /// The name of the Service.
    pub service: String,
    /// The name of the port; empty where a Service has only one.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// The cluster IP with the port.
    pub frontend: SocketAddr,
    /// Those that serve; without any, clients are refused.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint that serves.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// Its address and port.
    pub address: SocketAddr,
    /// Whether it is on kube-proxy's own node: only then can it be its own client.
    pub is_local: bool,
}

impl ServicePort {
    /// Its protocol as rules name it.
    pub(super) const fn protocol(&self) -> &'static str {
        match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// `namespace/service:port`, as in comments of rules.
impl fmt::Display for ServicePort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, service, name, .. } = self;
        let colon = if name.is_empty() { "" } else { ":" };
        write!(formatter, "{namespace}/{service}{colon}{name}")
    }
}
