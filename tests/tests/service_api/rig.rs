// SPDX-License-Identifier: Apache-2.0

//! Two nodes with a backend each, a pod, and a machine outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::agent::{Agent, AgentSpec};
use proxy_tests::cluster::{Cluster, PORT, TARGET, WEB, eventually, web};
use proxy_tests::family::{DualAddress, IpFamily};
use proxy_tests::manifests::Service;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{Host, TopologySpec};
use proxy_tests::traffic::{Answer, Client, Failure, TcpServer, UdpServer};
use serde_json::json;

pub(crate) const NODE: &str = "anc-node";
pub(crate) const OTHER_NODE: &str = "other-node";
/// The backend on the node that is asked, and the one on the other.
pub(crate) const LOCAL: &str = "web-1";
pub(crate) const REMOTE: &str = "web-2";
pub(crate) const NODE_PORT: u16 = 30_080;
/// What nobody has: the outside is told to send it to the node.
pub(crate) const LOAD_BALANCER: DualAddress = DualAddress::underlay(210);
pub(crate) const EXTERNAL: DualAddress = DualAddress::underlay(211);
/// Enough that no backend is missed: each misses all of these once in 10^12 runs.
const ENOUGH: usize = 40;

/// A way to a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frontend {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalIp,
}

impl Frontend {
    pub(crate) const ALL: [Self; 4] =
        [Self::ClusterIp, Self::NodePort, Self::LoadBalancer, Self::ExternalIp];

    /// Where it is on the node that is asked.
    pub(crate) fn target(self, family: IpFamily) -> SocketAddr {
        match self {
            Self::ClusterIp => SocketAddr::new(WEB.of(family), PORT),
            Self::NodePort => SocketAddr::new(DualAddress::underlay(1).of(family), NODE_PORT),
            Self::LoadBalancer => SocketAddr::new(LOAD_BALANCER.of(family), PORT),
            Self::ExternalIp => SocketAddr::new(EXTERNAL.of(family), PORT),
        }
    }
}

/// The namespaces, and servers on both backends.
pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
    _servers: Vec<(TcpServer, UdpServer)>,
}

impl Rig {
    /// These nodes, with what a test needs besides.
    pub(crate) fn new(spec: TopologySpec) -> Result<Self> {
        Self::with_servers(spec, &[LOCAL, REMOTE])
    }

    /// The same without the other node.
    pub(crate) fn of_one_node(spec: TopologySpec) -> Result<Self> {
        Self::with_servers(spec, &[LOCAL])
    }

    fn with_servers(spec: TopologySpec, servers: &[&str]) -> Result<Self> {
        let cluster = Cluster::new(&spec.outsider("outsider", 100))?;
        let servers = cluster.servers(servers)?;
        let rig = Self { cluster, _servers: servers };
        for family in IpFamily::ALL {
            for vip in [WEB, LOAD_BALANCER, EXTERNAL] {
                rig.send_to_node(rig.outsider(), vip.of(family))?;
            }
        }
        Ok(rig)
    }

    /// Has a machine of the nodes' network send what is for an address to the node.
    pub(crate) fn send_to_node(&self, from: &Host, address: IpAddr) -> Result<()> {
        from.send_through(address, self.node())
    }

    pub(crate) fn node(&self) -> &Host {
        self.cluster.topology.node(NODE).host()
    }

    pub(crate) fn outsider(&self) -> &Host {
        self.cluster.topology.outsider("outsider")
    }

    pub(crate) fn pod(&self, name: &str) -> &Host {
        self.cluster.topology.pod(name)
    }

    /// An agent on the node; it needs none on the other.
    pub(crate) fn agent(&self) -> AgentSpec<'_> {
        self.cluster.agent(NODE)
    }

    /// Runs it.
    pub(crate) fn start(&self) -> Result<Agent<'_>> {
        self.agent().start()
    }

    /// Has a Service served under each external traffic policy, by an agent that knows no other, and
    /// looks at what must hold then.
    pub(crate) fn under_each_policy(
        &self,
        service: &Service,
        mut holds: impl FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        for policy in ["Cluster", "Local"] {
            let service = service.clone().field("externalTrafficPolicy", json!(policy));
            self.cluster.manifests.apply(&service)?;
            let mut agent = self.start()?;
            holds(policy).with_context(|| format!("under the policy {policy}"))?;
            ensure!(agent.stop()?.success());
        }
        Ok(())
    }

    /// The Service with every frontend and these backends.
    pub(crate) fn service(&self, backends: &[&str]) -> Service {
        let families = IpFamily::ALL;
        web(WEB, "web")
            .port("sctp", Protocol::Sctp, PORT, TARGET)
            .node_port(NODE_PORT)
            .load_balancer(families.map(|family| LOAD_BALANCER.of(family)))
            .field("externalIPs", json!(families.map(|family| EXTERNAL.of(family))))
            .pods(backends.iter().map(|pod| self.pod(pod)))
    }
}

/// Asks many times: which backends answer, and as whom each of them sees the client.
pub(crate) fn ask(
    from: &Host,
    protocol: Protocol,
    target: SocketAddr,
) -> Result<BTreeMap<String, BTreeSet<IpAddr>>, Failure> {
    let client = Client::new(from);
    let mut seen: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for _ in 0..ENOUGH {
        let Answer { server, source, .. } = client.ask(protocol, target)?;
        let _: bool = seen.entry(server).or_default().insert(source.ip());
    }
    Ok(seen)
}

/// The client must be answered by exactly these, which must see it as this; soon, if objects have
/// just changed.
pub(crate) fn is_served(
    from: &Host,
    target: SocketAddr,
    expected: &[(&str, IpAddr)],
) -> Result<()> {
    let expected: BTreeMap<_, _> = expected
        .iter()
        .map(|(server, source)| ((*server).to_owned(), BTreeSet::from([*source])))
        .collect();
    for protocol in Protocol::OF_SOCKETS {
        let mut seen = ask(from, protocol, target);
        let _: bool = eventually(|| {
            let is_right = seen.as_ref().is_ok_and(|seen| *seen == expected);
            if !is_right {
                seen = ask(from, protocol, target);
            }
            is_right
        });
        let seen = seen?;
        ensure!(seen == expected, "{protocol} from {} to {target}: {seen:?}", from.name());
    }
    Ok(())
}
