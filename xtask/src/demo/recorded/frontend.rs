// SPDX-License-Identifier: Apache-2.0
//! The ways to a Service port.

use std::net::{IpAddr, SocketAddr};

use proxy_tests::{family::IpFamily, topology::Host};

use super::{Service, ServicePort};

/// An address, or addresses, of a Service.
#[derive(Clone, Copy)]
pub(in super::super) enum Frontend {
    ClusterIp(IpAddr),
    /// A port of all nodes.
    NodePort(IpFamily, u16),
    LoadBalancer {
        address: IpAddr,
        /// Whether packets come unchanged to the node (`ipMode`), which serves the address then.
        is_vip: bool,
    },
    ExternalIp(IpAddr),
}

/// A Service port, and the frontend by which it is asked.
pub(in super::super) struct Way<'a> {
    pub(in super::super) service: &'a Service,
    pub(in super::super) port: &'a ServicePort,
    pub(in super::super) frontend: Frontend,
}

impl Frontend {
    /// The address that is the Service's own; none of a node port.
    pub(in super::super) const fn address(self) -> Option<IpAddr> {
        match self {
            Self::ClusterIp(address)
            | Self::LoadBalancer { address, .. }
            | Self::ExternalIp(address) => Some(address),
            Self::NodePort(..) => None,
        }
    }

    /// Its family.
    pub(in super::super) fn family(self) -> IpFamily {
        match self {
            Self::NodePort(family, _) => family,
            Self::ClusterIp(address)
            | Self::LoadBalancer { address, .. }
            | Self::ExternalIp(address) => IpFamily::of(address),
        }
    }
}

impl Way<'_> {
    /// What clients dial to come this way by `node`.
    pub(in super::super) fn target(&self, node: &Host) -> SocketAddr {
        let address = || node.address(self.frontend.family());
        SocketAddr::new(self.frontend.address().unwrap_or_else(address), self.number())
    }

    /// What it is called in tables: `80/TCP` for a cluster IP, else with the kind.
    pub(in super::super) fn label(&self) -> String {
        let kind = match self.frontend {
            Frontend::ClusterIp(_) => "",
            Frontend::NodePort(..) => "node port ",
            Frontend::LoadBalancer { .. } => "load balancer ",
            Frontend::ExternalIp(_) => "external IP ",
        };
        format!("{kind}{}/{}", self.number(), self.port.protocol)
    }

    const fn number(&self) -> u16 {
        match self.frontend {
            Frontend::NodePort(_, number) => number,
            _ => self.port.port,
        }
    }
}
