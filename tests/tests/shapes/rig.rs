// SPDX-License-Identifier: Apache-2.0

//! Two nodes of one shape, a client on one of them, and a Service for each place where a backend
//! can be.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::agent::{Agent, AgentSpec};
use proxy_tests::family::{DualAddress, TestFamily};
use proxy_tests::manifests::{Endpoint, Manifests, Service};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{BetweenNodes, Host, NodeSpec, PodNetwork, Topology, TopologySpec};
use proxy_tests::traffic::{Client, TcpServer, UdpServer, is_refused_at_once};

/// The client's node, on which the agent runs.
pub(crate) const NODE: &str = "anc-node";
/// The other node, which has no agent: it needs none.
pub(crate) const OTHER_NODE: &str = "other-node";
/// The client.
pub(crate) const CLIENT: &str = "client";
/// The port of all Services, TCP and UDP.
pub(crate) const PORT: u16 = 80;
/// The port of their endpoints, TCP and UDP.
pub(crate) const TARGET: u16 = 8080;
/// Another port of all Services, and of their endpoints, UDP only.
pub(crate) const HOPS_PORT: u16 = 81;
/// See [`HOPS_PORT`].
pub(crate) const HOPS_TARGET: u16 = 8081;

/// Bytes of a transfer, in each direction: more than all windows and buffers hold.
const TRANSFER: usize = 4 << 20;

/// Where a Service's only backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A pod on the client's node.
    Near,
    /// A pod on the other node.
    Far,
    /// The client itself.
    Itself,
    /// The client's node: a process in its network namespace.
    Node,
    /// The other node, likewise.
    OtherNode,
    /// A machine in the nodes' network that is not of the cluster.
    Machine,
}

impl Place {
    /// Those that are pods: they see a client by its own address, whatever is masqueraded.
    pub(crate) const PODS: [Self; 3] = [Self::Near, Self::Far, Self::Itself];
    /// Those that are none, and reach no pod that is not masqueraded, except for its own node.
    pub(crate) const OTHERS: [Self; 3] = [Self::Node, Self::OtherNode, Self::Machine];

    const fn cluster_ip(self) -> DualAddress {
        DualAddress::cluster_ip(100 + self as u8)
    }
}

/// The ClusterIP of a Service without endpoints.
const NOBODY: DualAddress = DualAddress::cluster_ip(99);

/// The nodes, with servers in every place.
pub(crate) struct Rig {
    pub(crate) topology: Topology,
    manifests: Manifests,
    _servers: Vec<(TcpServer, UdpServer)>,
}

impl Rig {
    /// Two nodes that connect their pods by `pods`, added to `spec`.
    pub(crate) fn new(spec: TopologySpec, pods: PodNetwork) -> Result<Self> {
        let spec = spec
            .node(NodeSpec::new(NODE, pods).pod(CLIENT, 11).pod("near", 12))
            .node(NodeSpec::new(OTHER_NODE, pods).pod("far", 22))
            .outsider("machine", 100);
        let topology = spec.build()?;
        let manifests = Manifests::new()?;
        for node in topology.nodes() {
            manifests.apply_node(node, None)?;
        }
        let mut servers = Vec::new();
        for place in Place::PODS.into_iter().chain(Place::OTHERS) {
            let host = host(&topology, place);
            servers.push((TcpServer::start(host, TARGET)?, UdpServer::start(host, TARGET)?));
            let name = format!("{place:?}").to_lowercase();
            let service = service(&name, place.cluster_ip());
            manifests.apply(&service.endpoints([Endpoint::of(host)]))?;
        }
        manifests.apply(&service("nobody", NOBODY))?;
        Ok(Self { topology, manifests, _servers: servers })
    }

    /// Two nodes that are joined by `between`.
    pub(crate) fn joined(pods: PodNetwork, between: BetweenNodes) -> Result<Self> {
        Self::new(TopologySpec::new().between_nodes(between), pods)
    }

    /// The agent on the client's node.
    pub(crate) fn agent(&self) -> AgentSpec<'_> {
        AgentSpec::new(self.topology.node(NODE).host(), self.manifests.directory())
    }

    /// The same, running, with its usual log.
    pub(crate) fn start(&self) -> Result<Agent<'_>> {
        self.agent().log_level("info").start()
    }

    /// The host in a place.
    pub(crate) fn host(&self, place: Place) -> &Host {
        host(&self.topology, place)
    }

    /// The client.
    pub(crate) fn client(&self) -> &Host {
        self.topology.pod(CLIENT)
    }

    /// Requests, datagrams and a transfer to a Service reach its backend; see
    /// [`answers`](Self::answers).
    pub(crate) fn serves<F: TestFamily>(&self, place: Place, masqueraded: bool) -> Result<()> {
        self.answers::<F>(place, masqueraded)?;
        Client::new(self.client())
            .transfer(vip::<F>(place), TRANSFER)
            .with_context(|| format!("{} transfer to a backend {place:?}", F::FAMILY))
    }

    /// A Service's backend answers a request and a datagram; `masqueraded` says whether a backend
    /// that is no pod sees the client's node instead of the client.
    pub(crate) fn answers<F: TestFamily>(&self, place: Place, masqueraded: bool) -> Result<()> {
        let target = vip::<F>(place);
        let client = Client::new(self.client());
        let context = || format!("{} to a backend {place:?}", F::FAMILY);
        for protocol in Protocol::OF_SOCKETS {
            let answer = client.ask(protocol, target);
            let answer = answer.with_context(|| format!("{protocol} {}", context()))?;
            ensure!(answer.server == self.host(place).name(), "{answer:?}, {}", context());
            let seen = answer.source.ip();
            let own = self.client().address(F::FAMILY);
            let node = self.topology.node(NODE).host().address(F::FAMILY);
            let right = match place {
                Place::Itself => seen != own,
                Place::OtherNode | Place::Machine if masqueraded => seen == node,
                _ => seen == own,
            };
            ensure!(right, "seen as {seen}, {}", context());
        }
        Ok(())
    }

    /// A Service without endpoints refuses at once.
    pub(crate) fn refuses<F: TestFamily>(&self) -> Result<()> {
        for protocol in Protocol::OF_SOCKETS {
            let target = SocketAddr::new(NOBODY.of(F::FAMILY), PORT);
            let client = Client::new(self.client());
            let _ = is_refused_at_once(|| client.ask(protocol, target)).context(protocol)?;
        }
        Ok(())
    }
}

/// The Service whose backend is in a place.
pub(crate) fn vip<F: TestFamily>(place: Place) -> SocketAddr {
    vip_at::<F>(place, PORT)
}

/// The same, on another port.
pub(crate) fn vip_at<F: TestFamily>(place: Place, port: u16) -> SocketAddr {
    SocketAddr::new(place.cluster_ip().of(F::FAMILY), port)
}

fn host(topology: &Topology, place: Place) -> &Host {
    match place {
        Place::Near => topology.pod("near"),
        Place::Far => topology.pod("far"),
        Place::Itself => topology.pod(CLIENT),
        Place::Node => topology.node(NODE).host(),
        Place::OtherNode => topology.node(OTHER_NODE).host(),
        Place::Machine => topology.outsider("machine"),
    }
}

fn service(name: &str, cluster_ip: DualAddress) -> Service {
    Service::dual(name, cluster_ip)
        .port("tcp", Protocol::Tcp, PORT, TARGET)
        .port("udp", Protocol::Udp, PORT, TARGET)
        .port("hops", Protocol::Udp, HOPS_PORT, HOPS_TARGET)
}
