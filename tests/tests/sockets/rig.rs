// SPDX-License-Identifier: Apache-2.0

//! A node with two pods that serve, and a Service.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proxy_tests::agent::AgentSpec;
use proxy_tests::family::{DualAddress, TestFamily};
use proxy_tests::manifests::{Manifests, Service};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{Host, NodeSpec, Topology, TopologySpec};
use proxy_tests::traffic::{Client, TcpServer, UdpServer};

/// How long an agent may take to follow a change.
const PATIENCE: Duration = Duration::from_secs(20);

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

    /// Has the Service served by this pod, and waits until it is.
    pub(crate) fn follows<F: TestFamily>(&self, pod: &str) -> Result<()> {
        self.serve(&[pod])?;
        let client = Client::new(self.node());
        let deadline = Instant::now() + PATIENCE;
        // Several times: by chance it is asked before the others are gone.
        while !(0..20)
            .all(|_| client.ask(Protocol::Tcp, web::<F>()).is_ok_and(|at| at.server == pod))
        {
            ensure!(Instant::now() < deadline, "the agent does not follow");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
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
