// SPDX-License-Identifier: Apache-2.0

//! A cluster with an agent on each node.

use std::time::Duration;

use anyhow::Result;
use proxy_tests::{
    agent::{Agent, AgentSpec},
    family::DualAddress,
    manifests::{Manifests, Service},
    protocol::Protocol,
    topology::{NodeSpec, Topology, TopologySpec},
    traffic::{TcpServer, UdpServer},
};

/// The ClusterIP of the Service `web`.
pub(crate) const WEB: DualAddress = DualAddress::cluster_ip(10);
/// The port of Services, TCP and UDP.
pub(crate) const PORT: u16 = 80;
/// The port of their endpoints, TCP and UDP.
pub(crate) const TARGET: u16 = 8080;
/// Longer than anything here takes, and shorter than a person's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A topology with its manifests.
pub(crate) struct Cluster {
    pub(crate) topology: Topology,
    pub(crate) manifests: Manifests,
}

impl Cluster {
    /// Builds the namespaces, and manifests with the Nodes.
    pub(crate) fn new(spec: &TopologySpec) -> Result<Self> {
        let topology = spec.build()?;
        let manifests = Manifests::new()?;
        for node in topology.nodes() {
            manifests.apply_node(node, None)?;
        }
        Ok(Self { topology, manifests })
    }

    /// One node with a client and three pods that serve.
    pub(crate) fn of(node: NodeSpec) -> Result<Self> {
        let node = node.pod("client", 11).pod("web-1", 12).pod("web-2", 13).pod("web-3", 14);
        Self::new(&TopologySpec::new().node(node))
    }

    /// An agent on a node.
    pub(crate) fn agent(&self, node: &str) -> AgentSpec<'_> {
        AgentSpec::new(self.topology.node(node).host(), self.manifests.directory())
    }

    /// Runs an agent on each node.
    pub(crate) fn agents(&self) -> Result<Vec<Agent<'_>>> {
        self.topology.nodes().map(|node| self.agent(node.host().name()).start()).collect()
    }

    /// Writes the Service `web` with these pods as its endpoints.
    pub(crate) fn serve_web(&self, pods: &[&str]) -> Result<()> {
        self.manifests.apply(&self.web(pods))
    }

    /// The Service `web` with these pods as its endpoints.
    pub(crate) fn web(&self, pods: &[&str]) -> Service {
        web(WEB, "web").pods(pods.iter().map(|pod| self.topology.pod(pod)))
    }

    /// Servers on the target port of pods.
    pub(crate) fn servers(&self, pods: &[&str]) -> Result<Vec<(TcpServer, UdpServer)>> {
        pods.iter()
            .map(|pod| {
                let pod = self.topology.pod(pod);
                Ok((TcpServer::start(pod, TARGET)?, UdpServer::start(pod, TARGET)?))
            })
            .collect()
    }
}

/// A Service with TCP and UDP on one port.
pub(crate) fn web(cluster_ip: DualAddress, name: &str) -> Service {
    Service::dual(name, cluster_ip).port("tcp", Protocol::Tcp, PORT, TARGET).port(
        "udp",
        Protocol::Udp,
        PORT,
        TARGET,
    )
}

/// Tries until it succeeds, for as long as [`PATIENCE`].
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let start = std::time::Instant::now();
    while start.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
