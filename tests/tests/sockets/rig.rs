// SPDX-License-Identifier: Apache-2.0

//! A node with two pods that serve, and a Service.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_tests::agent::AgentSpec;
use proxy_tests::family::{DualAddress, TestFamily};
use proxy_tests::manifests::{Manifests, Service};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{Host, NodeSpec, Topology, TopologySpec};
use proxy_tests::traffic::{TcpServer, UdpServer};

/// The node.
const NODE: &str = "anc-node";
/// The pods.
pub(crate) const PODS: [&str; 2] = ["web-1", "web-2"];
/// Where the pods listen, TCP and UDP.
const TARGET: u16 = 8080;
/// Where pods listen for something else, TCP.
pub(crate) const OTHER_TARGET: u16 = 2049;

/// The ClusterIP of the Service.
const WEB: DualAddress = DualAddress::cluster_ip(10);
/// Its port for [`TARGET`].
const PORT: u16 = 80;
/// Its port for [`OTHER_TARGET`].
pub(crate) const OTHER_PORT: u16 = 81;

pub(crate) struct Rig {
    pub(crate) topology: Topology,
    manifests: Manifests,
}

impl Rig {
    /// A rig whose Service is served by these pods.
    pub(crate) fn new(pods: &[&str]) -> Result<Self> {
        let node = PODS
            .into_iter()
            .zip(12..)
            .fold(NodeSpec::bridge(NODE), |node, (pod, host)| node.pod(pod, host));
        let topology = TopologySpec::new().node(node).build()?;
        let manifests = Manifests::new()?;
        manifests.apply_node(topology.node(NODE), None)?;
        let rig = Self { topology, manifests };
        rig.serve(pods)?;
        Ok(rig)
    }

    /// Has the Service served by these pods.
    pub(crate) fn serve(&self, pods: &[&str]) -> Result<()> {
        let service = Service::dual("web", WEB)
            .port("tcp", Protocol::Tcp, PORT, TARGET)
            .port("udp", Protocol::Udp, PORT, TARGET)
            .port("other", Protocol::Tcp, OTHER_PORT, OTHER_TARGET)
            .pods(pods.iter().map(|pod| self.topology.pod(pod)));
        self.manifests.apply(&service)
    }

    /// The node.
    pub(crate) fn node(&self) -> &Host {
        self.topology.node(NODE).host()
    }

    /// Servers on [`TARGET`] of the pods.
    pub(crate) fn servers(&self) -> Result<Vec<(TcpServer, UdpServer)>> {
        let pods = PODS.map(|pod| self.topology.pod(pod)).into_iter();
        pods.map(|pod| Ok((TcpServer::start(pod, TARGET)?, UdpServer::start(pod, TARGET)?)))
            .collect()
    }

    /// An agent on the node.
    pub(crate) fn agent(&self) -> AgentSpec<'_> {
        AgentSpec::new(self.node(), self.manifests.directory())
    }
}

/// Where clients find the Service, TCP and UDP.
pub(crate) const fn web<F: TestFamily>() -> SocketAddr {
    SocketAddr::new(WEB.of(F::FAMILY), PORT)
}
