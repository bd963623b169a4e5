// SPDX-License-Identifier: Apache-2.0
//! The nodes that are measured: each with another proxy, a client and a server, all at once.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::{
    agent::{Agent, AgentSpec},
    family::{DualAddress, IpFamily},
    manifests::{Manifests, Service},
    process::Process,
    protocol::Protocol,
    topology::{Host, NodeSpec, Topology, TopologySpec},
};

use super::{
    evidence,
    peer::{self, Server},
    processors::Place,
    setup::Setup,
};
use crate::{iperf3, progress::Part};

/// The cluster IP of the Service on every node.
const CLUSTER_IP: DualAddress = DualAddress::cluster_ip(201);

/// The host numbers of the client and the server of a node.
const CLIENT: u8 = 11;
const SERVER: u8 = 12;

/// What serves the Services of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proxy {
    /// Nothing, and netfilter has no rules.
    None,
    /// The agent.
    Sixfour,
}

impl Proxy {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::None, Self::Sixfour];

    const fn node(self) -> &'static str {
        match self {
            Self::None => "plain",
            Self::Sixfour => "sixfour",
        }
    }

    fn pod(self, what: &str) -> String {
        format!("{what}-{}", self.node())
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// A pod, whose packets are translated on its device.
    Pod,
    /// A process of the node.
    Node,
}

/// Makes the nodes, with a client and a server each.
///
/// # Errors
///
/// If namespaces cannot be made.
pub(crate) fn topology() -> Result<Topology> {
    let mut spec = TopologySpec::new();
    for proxy in Proxy::ALL {
        let node = NodeSpec::routed(proxy.node());
        spec = spec.node(node.pod(&proxy.pod("c"), CLIENT).pod(&proxy.pod("s"), SERVER));
    }
    let part = Part::new("a node for each proxy, with a client and a server", Proxy::ALL.len() * 3);
    spec.build_with_progress(|step| {
        part.on(step);
        part.done();
    })
}

/// The nodes with everything that runs there.
pub(crate) struct Network<'a> {
    topology: &'a Topology,
    agent: Agent<'a>,
    _servers: Vec<Servers>,
}

/// What runs in the pod of a server.
struct Servers {
    _iperf3: Process,
    _peers: [Server; 2],
}

impl Servers {
    fn start(pod: &Host, setup: &Setup) -> Result<Self> {
        let start = |place, port| setup.processors.run(place, || Server::start(pod, port));
        Ok(Self {
            _iperf3: setup.processors.run(Place::Server, || iperf3::serve(pod))?,
            _peers: [start(Place::Server, peer::PORT)?, start(Place::First, peer::PORT_BESIDE)?],
        })
    }
}

impl<'a> Network<'a> {
    /// Starts the servers and the proxies.
    ///
    /// # Errors
    ///
    /// If one does not start.
    pub(crate) fn start(
        topology: &'a Topology,
        manifests: &'a Manifests,
        setup: &Setup,
    ) -> Result<Self> {
        let part = Part::new("servers, and the proxies", 2);
        part.on("servers");
        let servers = Proxy::ALL.map(|proxy| Servers::start(topology.pod(&proxy.pod("s")), setup));
        let servers = servers.into_iter().collect::<Result<_>>()?;
        part.done();

        for proxy in Proxy::ALL {
            evidence::ensure_no_rules(topology.node(proxy.node()).host())?;
        }
        part.on("the agent");
        let node = topology.node(Proxy::Sixfour.node());
        let service = Service::dual("measured", CLUSTER_IP)
            .port("tcp", Protocol::Tcp, iperf3::PORT, iperf3::PORT)
            .port("udp", Protocol::Udp, iperf3::PORT, iperf3::PORT)
            .port("peer", Protocol::Tcp, peer::PORT, peer::PORT)
            .port("beside", Protocol::Tcp, peer::PORT_BESIDE, peer::PORT_BESIDE)
            .pods([topology.pod(&Proxy::Sixfour.pod("s"))]);
        manifests.apply_node(node, None)?;
        manifests.apply(&service)?;
        let agent = AgentSpec::new(node.host(), manifests.directory())
            .log_level("info")
            .binary(&setup.sixfour)
            .start()?;
        part.done();
        Ok(Self { topology, agent, _servers: servers })
    }

    /// Who asks on the node of a proxy.
    pub(crate) fn client(&self, proxy: Proxy, client: Client) -> &'a Host {
        match client {
            Client::Pod => self.topology.pod(&proxy.pod("c")),
            Client::Node => self.topology.node(proxy.node()).host(),
        }
    }

    /// The server on the node of a proxy: its own address.
    pub(crate) fn server(&self, proxy: Proxy, family: IpFamily) -> IpAddr {
        self.topology.pod(&proxy.pod("s")).address(family)
    }

    /// The same through its Service.
    pub(crate) fn cluster_ip(family: IpFamily) -> IpAddr {
        CLUSTER_IP.of(family)
    }

    /// The agent.
    pub(crate) const fn agent(&self) -> &Agent<'a> {
        &self.agent
    }

    /// That no server remembers closed connections: new ones from the same port would be turned
    /// away, and what is measured would be the wait of clients.
    ///
    /// # Errors
    ///
    /// If one does.
    pub(crate) fn ensure_no_time_wait(&self) -> Result<()> {
        for proxy in Proxy::ALL {
            let pod = self.topology.pod(&proxy.pod("s"));
            let sockets = pod.namespace().run(|| {
                let path = "/proc/thread-self/net/sockstat";
                std::fs::read_to_string(path).context("counting sockets")
            })?;
            let waiting = sockets.lines().find(|line| line.starts_with("TCP:"));
            let waiting = waiting.and_then(|line| line.split(" tw ").nth(1)?.split(' ').next());
            ensure!(waiting == Some("0"), "{} has sockets in TIME_WAIT: {sockets}", pod.name());
        }
        Ok(())
    }

    /// Ends the agent.
    ///
    /// # Errors
    ///
    /// If it does not end well.
    pub(crate) fn stop(mut self) -> Result<()> {
        let status = self.agent.stop()?;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }
}
