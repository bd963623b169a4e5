// SPDX-License-Identifier: Apache-2.0

//! A node with the rules of kube-proxy, in each of the ways in which it writes them.

use std::marker::PhantomData;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_tests::cluster::{Cluster, PORT, TARGET, WEB, web};
use proxy_tests::family::{DualAddress, IpFamily, TestFamily};
use proxy_tests::kube_proxy::{Endpoint, Mode, Node, Rules, ServicePort};
use proxy_tests::netns::Namespace;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::NodeSpec;
use proxy_tests::traffic::{TcpServer, UdpServer};

/// The pod that asks.
pub(super) const CLIENT: &str = "client";
/// A pod whose device has no programs yet.
pub(super) const LATE: &str = "late";
/// The cluster IP of a Service with one endpoint.
pub(super) const ONE: DualAddress = DualAddress::cluster_ip(20);

/// Those that serve.
const SERVERS: [&str; 3] = ["web-1", "web-2", "web-3"];

/// How rules are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nftables,
    /// By iptables upon nftables.
    Iptables,
    /// By iptables as it was before.
    LegacyIptables,
}

/// What a port of the client sends to a Service.
pub(super) type Sent = (Protocol, u16, DualAddress);

/// The TCP and UDP port of a Service.
pub(super) fn vip<F: TestFamily>(address: DualAddress) -> SocketAddr {
    SocketAddr::new(address.of(F::FAMILY), PORT)
}

/// The node, with servers, Services and rules for them.
pub(super) struct Rig<F> {
    pub(super) cluster: Cluster,
    kind: Kind,
    _servers: Vec<(TcpServer, UdpServer)>,
    family: PhantomData<F>,
}

impl<F: TestFamily> Rig<F> {
    pub(super) fn new(node: NodeSpec, kind: Kind) -> Result<Self> {
        let cluster = Cluster::of(node)?;
        let servers = cluster.servers(&SERVERS)?;
        cluster.serve_web(&SERVERS)?;
        cluster.manifests.apply(&web(ONE, "one").pods([cluster.topology.pod(SERVERS[0])]))?;
        cluster.manifests.apply_service_cidr()?;
        let rig = Self { cluster, kind, _servers: servers, family: PhantomData };
        rig.load_rules()?;
        Ok(rig)
    }

    fn node(&self) -> &Namespace {
        self.cluster.topology.node("anc-node").host().namespace()
    }

    /// Loads the rules of kube-proxy for the Services.
    pub(super) fn load_rules(&self) -> Result<()> {
        let ports = [("web", WEB, &SERVERS[..]), ("one", ONE, &SERVERS[..1])];
        let ports: Vec<_> = ports
            .into_iter()
            .flat_map(|(service, address, pods)| {
                Protocol::OF_SOCKETS.map(|protocol| ServicePort {
                    namespace: "default".to_owned(),
                    service: service.to_owned(),
                    name: protocol.name().to_lowercase(),
                    protocol,
                    frontend: vip::<F>(address),
                    endpoints: pods.iter().map(|pod| self.endpoint(pod)).collect(),
                })
            })
            .collect();
        let mode = if self.kind == Kind::Nftables { Mode::Nftables } else { Mode::Iptables };
        let host = self.cluster.topology.node("anc-node").host();
        let node = Node::at(host.address(F::FAMILY));
        let rules = Rules { mode, node, ports: ports.into_iter() };
        if self.kind != Kind::LegacyIptables {
            return rules.load_into(self.node()).map(drop);
        }
        let mut text = Vec::new();
        rules.write(&mut text)?;
        let text = String::from_utf8(text)?;
        // It names an object of its own, which has no part in this.
        let lines = text.lines().filter(|line| !line.contains("nfacct"));
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        self.node().output(&self.iptables("restore"), "", &text).map(drop)
    }

    fn endpoint(&self, pod: &str) -> Endpoint {
        Endpoint { address: self.cluster.topology.pod(pod).socket::<F>(TARGET), is_local: true }
    }

    /// A program of iptables for the family.
    fn iptables(&self, does: &str) -> String {
        let name = if F::FAMILY == IpFamily::V4 { "iptables" } else { "ip6tables" };
        let kind = if self.kind == Kind::LegacyIptables { "-legacy" } else { "-nft" };
        format!("{name}{kind}-{does}")
    }

    /// Does what `kube-proxy --cleanup` does: takes its rules away, and nothing else.
    pub(super) fn remove_rules(&self) -> Result<()> {
        if self.kind == Kind::Nftables {
            let table = if F::FAMILY == IpFamily::V4 { "ip" } else { "ip6" };
            return self
                .node()
                .output("nft", &format!("delete table {table} kube-proxy"), "")
                .map(drop);
        }
        let rules = self.node().output(&self.iptables("save"), "", "")?;
        let others = rules.lines().filter(|line| !line.contains("KUBE-"));
        let others: String = others.flat_map(|line| [line, "\n"]).collect();
        self.node().output(&self.iptables("restore"), "", &others).map(drop)
    }

    /// Has the kernel go on with connection tracking and NAT, as `docs/migration.md` says.
    pub(super) fn keep_translating(&self) -> Result<()> {
        let rules = "table inet keep-translating {
            chain prerouting { type nat hook prerouting priority 0; ct status dnat accept; }
        }";
        self.node().output("nft", "-f -", rules).map(drop)
    }

    /// Whether connection tracking translates what a port of the client sends to a Service.
    pub(super) fn translates(&self, sent: Sent) -> Result<bool> {
        Ok(!self.conntrack("--dump", sent)?.is_empty())
    }

    /// Has connection tracking forget it.
    pub(super) fn forget(&self, sent: Sent) -> Result<()> {
        self.conntrack("--delete", sent).map(drop)
    }

    fn conntrack(&self, what: &str, (protocol, port, to): Sent) -> Result<String> {
        let family = F::FAMILY.name().to_lowercase();
        let protocol = protocol.name().to_lowercase();
        let client = self.cluster.topology.pod(CLIENT).address(F::FAMILY);
        let to = to.of(F::FAMILY);
        let words = format!(
            "{what} --family {family} --proto {protocol} --orig-src {client} --orig-port-src {port} \
             --orig-dst {to}"
        );
        self.node().output("conntrack", &words, "").context("asking connection tracking")
    }
}
