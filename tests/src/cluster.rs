// SPDX-License-Identifier: Apache-2.0

//! A cluster, with a Service that its pods serve.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::agent::{Agent, AgentSpec};
use crate::family::DualAddress;
use crate::manifests::{Manifests, Service};
use crate::protocol::Protocol;
use crate::topology::{NodeSpec, Topology, TopologySpec};
use crate::traffic::{TcpServer, UdpServer};

/// The ClusterIP of the Service `web`.
pub const WEB: DualAddress = DualAddress::cluster_ip(10);
/// The port of Services, TCP and UDP.
pub const PORT: u16 = 80;
/// The port of their endpoints, TCP and UDP.
pub const TARGET: u16 = 8080;
/// Much longer than anything here takes, on machines that do other things, too.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A topology with its manifests.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes and pods.
    pub topology: Topology,
    /// What the agents read.
    pub manifests: Manifests,
}

impl Cluster {
    /// Builds the namespaces, and manifests with the Nodes.
    pub fn new(spec: &TopologySpec) -> Result<Self> {
        let topology = spec.build()?;
        let manifests = Manifests::new()?;
        for node in topology.nodes() {
            manifests.apply_node(node, None)?;
        }
        Ok(Self { topology, manifests })
    }

    /// One node with a client and three pods that serve.
    pub fn of(node: NodeSpec) -> Result<Self> {
        let node = node.pod("client", 11).pod("web-1", 12).pod("web-2", 13).pod("web-3", 14);
        Self::new(&TopologySpec::new().node(node))
    }

    /// An agent on a node.
    #[must_use]
    pub fn agent(&self, node: &str) -> AgentSpec<'_> {
        AgentSpec::new(self.topology.node(node).host(), self.manifests.directory())
    }

    /// Runs an agent on each node.
    pub fn agents(&self) -> Result<Vec<Agent<'_>>> {
        self.topology.nodes().map(|node| self.agent(node.host().name()).start()).collect()
    }

    /// Writes the Service `web` with these pods as its endpoints.
    pub fn serve_web(&self, pods: &[&str]) -> Result<()> {
        self.manifests.apply(&self.web(pods))
    }

    /// The Service `web` with these pods as its endpoints.
    #[must_use]
    pub fn web(&self, pods: &[&str]) -> Service {
        web(WEB, "web").pods(pods.iter().map(|pod| self.topology.pod(pod)))
    }

    /// Servers on the target port of pods.
    pub fn servers(&self, pods: &[&str]) -> Result<Vec<(TcpServer, UdpServer)>> {
        pods.iter()
            .map(|pod| {
                let pod = self.topology.pod(pod);
                Ok((TcpServer::start(pod, TARGET)?, UdpServer::start(pod, TARGET)?))
            })
            .collect()
    }
}

/// A Service with TCP and UDP on one port.
#[must_use]
pub fn web(cluster_ip: DualAddress, name: &str) -> Service {
    Service::dual(name, cluster_ip).port("tcp", Protocol::Tcp, PORT, TARGET).port(
        "udp",
        Protocol::Udp,
        PORT,
        TARGET,
    )
}

/// Tries until it succeeds, for as long as [`PATIENCE`].
pub fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}
