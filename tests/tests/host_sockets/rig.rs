// SPDX-License-Identifier: Apache-2.0

//! Two nodes with servers on them and on their pods, and the ways to ask these.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{MapData, PerCpuArray};
use proxy_agent::bpf::object::{map_directory, pinned};
use proxy_common::counter::Reason;
use proxy_common::{V4, V6, map_names};
use proxy_tests::agent::Agent;
use proxy_tests::cluster::{Cluster, PATIENCE, PORT, TARGET, eventually};
use proxy_tests::family::{AddressForm, DualAddress, IpFamily, TestFamily};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{Host, NodeSpec, TopologySpec};
use proxy_tests::traffic::{Answer, Client, Failure, TcpServer, UdpServer};

/// The node of the processes that ask.
pub(crate) const NODE: &str = "anc-node";
/// The other one.
pub(crate) const OTHER_NODE: &str = "other-node";
/// The pods that serve. The last is on the other node.
pub(crate) const PODS: [&str; 4] = ["web-1", "web-2", "web-3", "web-4"];
/// How long an answer is waited for that must not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(200);
/// `EHOSTUNREACH`.
pub(crate) const UNREACHABLE: i32 = nix::libc::EHOSTUNREACH;

/// How a process asks a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By a TCP connection.
    Stream,
    /// By a UDP socket that is connected.
    Connected,
    /// By a UDP socket that is not.
    Unconnected,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Stream, Self::Connected, Self::Unconnected];
    /// Those in which the kernel hears of a refusal by packets.
    pub(crate) const CONNECTED: [Self; 2] = [Self::Stream, Self::Connected];

    /// Asks once, by a socket of its own.
    pub(crate) fn ask(self, client: &Client<'_>, target: SocketAddr) -> Result<Answer, Failure> {
        match self {
            Self::Stream => client.ask(Protocol::Tcp, target),
            Self::Connected => client.ask(Protocol::Udp, target),
            Self::Unconnected => client
                .unconnected(IpFamily::of(target.ip()))
                .map_err(|error| Failure { error, elapsed: Duration::ZERO })?
                .ask_at(target),
        }
    }
}

/// Two nodes; servers on the target port of the nodes and of all pods but `client`.
pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
    _servers: Vec<(TcpServer, UdpServer)>,
}

impl Rig {
    pub(crate) fn new() -> Result<Self> {
        let node = NodeSpec::bridge(NODE).pod("client", 11);
        let node = PODS.into_iter().zip(12..15).fold(node, |node, (pod, host)| node.pod(pod, host));
        let other = NodeSpec::routed(OTHER_NODE).pod(PODS[3], 22);
        let cluster = Cluster::new(&TopologySpec::new().node(node).node(other))?;
        cluster.manifests.apply_service_cidr()?;
        let mut servers = cluster.servers(&PODS)?;
        for node in cluster.topology.nodes() {
            let node = node.host();
            servers.push((TcpServer::start(node, TARGET)?, UdpServer::start(node, TARGET)?));
        }
        Ok(Self { cluster, _servers: servers })
    }

    /// An agent on the node of the processes.
    pub(crate) fn agent(&self) -> Result<Agent<'_>> {
        self.cluster.agent(NODE).start()
    }

    /// A node.
    pub(crate) fn node(&self, name: &str) -> &Host {
        self.cluster.topology.node(name).host()
    }

    /// A pod.
    pub(crate) fn pod(&self, name: &str) -> &Host {
        self.cluster.topology.pod(name)
    }

    /// Some pods.
    pub(crate) fn pods(&self, names: &[&str]) -> Vec<&Host> {
        names.iter().map(|name| self.pod(name)).collect()
    }

    /// A process of the node.
    pub(crate) fn client(&self) -> Client<'_> {
        Client::new(self.node(NODE))
    }

    /// The same, in each form of addresses of a family and in each way.
    pub(crate) fn clients<F: TestFamily>(
        &self,
    ) -> impl Iterator<Item = (Client<'_>, AddressForm, Way)> {
        AddressForm::all(F::FAMILY)
            .iter()
            .flat_map(move |form| Way::ALL.map(|way| (self.client().form(*form), *form, way)))
    }

    /// Waits until new sockets are served by exactly these.
    pub(crate) fn wait_for<F: TestFamily>(&self, vip: DualAddress, servers: &[&str]) -> Result<()> {
        let settled = || {
            let shares = self.client().ask_often(Protocol::Udp, target::<F>(vip), 60);
            shares.failures.is_empty() && shares.answers.keys().eq(servers)
        };
        ensure!(eventually(settled), "{servers:?} do not serve");
        Ok(())
    }

    /// A process in the node's network, but not in its control group, is refused by packets where
    /// there is nobody that its sockets are given; `enters` says whether the process enters the
    /// group after it has made its socket.
    pub(crate) fn is_not_served<F: TestFamily>(
        &self,
        agent: &Agent<'_>,
        vip: DualAddress,
        enters: bool,
    ) -> Result<()> {
        let before = Counted::read::<F>(agent)?;
        let namespace = self.node(NODE).namespace();
        let error = namespace.run_beside_cgroup(|| {
            let target = target::<F>(vip);
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(target),
                socket2::Type::STREAM,
                None,
            )?;
            if enters {
                namespace.cgroup().context("a node has a group")?.enter()?;
            }
            match socket.connect_timeout(&target.into(), PATIENCE) {
                Ok(()) => bail!("{:?} is reached", TcpStream::from(socket).peer_addr()),
                Err(error) => Ok(error),
            }
        })?;
        ensure!(error.kind() == io::ErrorKind::ConnectionRefused, "{error}");
        let after = Counted::read::<F>(agent)?;
        ensure!(after.translated == before.translated, "it was given a backend");
        ensure!(after.guarded == before.guarded + 1, "it was not refused by the guard");
        Ok(())
    }
}

/// A Service port of a test.
pub(crate) fn target<F: TestFamily>(vip: DualAddress) -> SocketAddr {
    SocketAddr::new(vip.of(F::FAMILY), PORT)
}

/// How often the programs of an agent have done some things, in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Sockets and datagrams were given backends.
    pub(crate) translated: u64,
    /// Sockets or packets were refused because there are no endpoints.
    pub(crate) without_endpoints: u64,
    /// Packets of nobody were held back at the uplink.
    pub(crate) guarded: u64,
}

impl Counted {
    pub(crate) fn read<F: TestFamily>(agent: &Agent<'_>) -> Result<Self> {
        let count = |reason| count::<F>(agent, reason);
        Ok(Self {
            translated: count(Reason::SocketTranslated)?,
            without_endpoints: count(Reason::RejectNoEndpoints)?,
            guarded: count(Reason::RejectServiceCidr)?,
        })
    }
}

/// How often the programs of an agent have counted a reason, in one family.
pub(crate) fn count<F: TestFamily>(agent: &Agent<'_>, reason: Reason) -> Result<u64> {
    let map = pinned(&map_directory(agent.pin_root()), map_names::COUNTERS)?;
    let counters: PerCpuArray<MapData, u64> = map.try_into()?;
    let row = match F::FAMILY {
        IpFamily::V4 => reason.row::<V4>(),
        IpFamily::V6 => reason.row::<V6>(),
    };
    Ok(counters.get(&row, 0)?.iter().sum())
}

/// The frontends of the flows that packets have in an agent's tables.
pub(crate) fn flows(agent: &Agent<'_>) -> Result<Vec<SocketAddr>> {
    let flows = agent.list("flows")?;
    let flows = flows.as_array().context("flows are a list")?;
    let frontend = |flow: &serde_json::Value| {
        Ok(flow["frontend"].as_str().context("a flow has a frontend")?.parse()?)
    };
    flows.iter().map(frontend).collect()
}
