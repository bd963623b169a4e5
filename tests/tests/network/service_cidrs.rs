// SPDX-License-Identifier: Apache-2.0

//! What goes to a Service CIDR and is translated by nobody does not leave the node.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use proxy_tests::cluster::{Cluster, PATIENCE, PORT, TARGET, WEB, eventually, web};
use proxy_tests::{
    both_families,
    family::{DualAddress, IpFamily, TestFamily},
    netns::Prefix,
    protocol::Protocol,
    topology::{BetweenNodes, Host, NodeSpec, TopologySpec},
    traffic::{Client, Failure, TcpServer, UdpServer},
};
use socket2::{Domain, Socket, Type};

both_families!(
    what_nobody_has_translated_stays,
    what_would_be_served_is_not_refused,
    who_is_outside_in_the_range_gets_answers,
    a_service_of_another_proxy_works,
    an_address_of_the_node_is_reached,
);

/// An address of the range that no Service has.
const NOBODY: DualAddress = DualAddress::cluster_ip(200);

/// Long enough for an answer, and short enough to wait for none.
const BRIEFLY: Duration = Duration::from_millis(300);

fn ask<F: TestFamily>(from: &Host, protocol: Protocol, to: DualAddress) -> Result<(), Failure> {
    let target = SocketAddr::new(to.of(F::FAMILY), PORT);
    Client::new(from).patience(BRIEFLY).ask(protocol, target).map(drop)
}

/// The nodes' default gateway has the address: who gets there is refused by it.
fn what_nobody_has_translated_stays<F: TestFamily>() -> Result<()> {
    let spec = TopologySpec::new()
        .between_nodes(BetweenNodes::Vxlan)
        .node(NodeSpec::bridge("anc-node").pod("client", 11).pod("web-1", 12));
    let cluster = Cluster::new(&spec)?;
    cluster.serve_web(&["web-1"])?;
    let _servers = cluster.servers(&["web-1"])?;
    cluster.topology.give_gateway(NOBODY)?;
    let (pod, node) = (cluster.topology.pod("client"), cluster.topology.node("anc-node").host());
    for socket_lb in ["host", "off"] {
        let mode = format!("--socket-lb={socket_lb}");
        let mut agent = cluster.agent("anc-node").argument(mode).start()?;
        // From pods and from processes of the node, whether or not these are served.
        let all = |is: fn(&Failure) -> bool| {
            let mut cases = [pod, node]
                .into_iter()
                .flat_map(|from| Protocol::OF_SOCKETS.map(|protocol| (from, protocol)));
            cases.find(|(from, protocol)| {
                !eventually(|| ask::<F>(from, *protocol, NOBODY).is_err_and(|failure| is(&failure)))
            })
        };
        let refused = || match all(Failure::is_refusal) {
            Some((from, protocol)) => bail!("{protocol} from {} does not get out", from.name()),
            None => Ok(()),
        };
        refused().context("without Service CIDRs")?;
        cluster.manifests.apply_service_cidr()?;
        if let Some((from, protocol)) = all(Failure::is_timeout) {
            bail!("{protocol} from {} gets out", from.name());
        }
        ensure!(agent.log()?.contains("drop-service-cidr"), "nobody says so");
        for protocol in Protocol::OF_SOCKETS {
            // Processes that are not served at their sockets: a cluster IP refuses them at once.
            for port in [PORT, PORT + 1] {
                let answer =
                    Client::new(node).ask(protocol, SocketAddr::new(WEB.of(F::FAMILY), port));
                let is_served = socket_lb == "host" && port == PORT;
                let is_right = answer.as_ref().map_or_else(Failure::is_refusal, |_| is_served);
                ensure!(is_right, "{protocol} to port {port}, {socket_lb}: {answer:?}");
            }
            // What Services are there for goes on.
            ask::<F>(pod, protocol, WEB).context("through the Service")?;
        }
        cluster.manifests.remove("kubernetes")?;
        refused().context("without Service CIDRs again")?;
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

/// A pod's first packets may come before its device has programs: their sender tries again.
fn what_would_be_served_is_not_refused<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    cluster.manifests.apply_service_cidr()?;
    let _servers = cluster.servers(&["web-1"])?;
    let mut agent = cluster.agent("anc-node").argument("--exclude-device=veth-client").start()?;
    let client = Client::new(cluster.topology.pod("client"));
    for protocol in Protocol::OF_SOCKETS {
        let target = |port| SocketAddr::new(WEB.of(F::FAMILY), port);
        let briefly = client.patience(BRIEFLY);
        let failure = briefly.ask(protocol, target(PORT)).expect_err("nobody translates");
        ensure!(failure.is_timeout(), "{}: {failure}", protocol.name());
        let failure = client.ask(protocol, target(PORT + 1)).expect_err("no such port");
        ensure!(failure.is_refusal(), "{}: {failure}", protocol.name());
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

/// The range may be in use outside of the cluster, too: nodes go on answering who is there.
fn who_is_outside_in_the_range_gets_answers<F: TestFamily>() -> Result<()> {
    let spec = TopologySpec::new()
        .node(NodeSpec::bridge("anc-node").pod("client", 11))
        .outsider("machine", 100);
    let cluster = Cluster::new(&spec)?;
    cluster.manifests.apply_service_cidr()?;
    let (node, machine) =
        (cluster.topology.node("anc-node").host(), cluster.topology.outsider("machine"));
    let (address, length) = (NOBODY.of(F::FAMILY), F::FAMILY.host_prefix_length());
    let netlink = machine.namespace().netlink()?;
    netlink.add_address(netlink.link("eth0")?, Prefix(address, length))?;
    let netlink = node.namespace().netlink()?;
    let gateway = machine.address(F::FAMILY);
    netlink.add_route(Prefix(address, length), Some(gateway), netlink.link("eth0")?)?;
    let _servers = (TcpServer::start(node, TARGET)?, UdpServer::start(node, TARGET)?);
    let mut agents = cluster.agents()?;
    let target = node.socket::<F>(TARGET);
    let from = |kind| {
        machine.namespace().run(|| {
            let socket = Socket::new(Domain::for_address(target), kind, None)?;
            socket.bind(&SocketAddr::new(address, 0).into())?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        })
    };
    let connection = from(Type::STREAM)?;
    connection.connect_timeout(&target.into(), PATIENCE).context("TCP from the range")?;
    let datagrams = UdpSocket::from(from(Type::DGRAM)?);
    let _: usize = datagrams.send_to(b"?", target)?;
    let mut answer = [0; 64];
    let _: (usize, SocketAddr) = datagrams.recv_from(&mut answer).context("UDP from the range")?;
    ensure!(answer.starts_with(b"anc-node "));
    ensure!(agents.remove(0).stop()?.success());
    Ok(())
}

/// kube-proxy and others translate in netfilter, between our two hooks.
fn a_service_of_another_proxy_works<F: TestFamily>() -> Result<()> {
    const OTHERS: DualAddress = DualAddress::cluster_ip(77);
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    let _servers = cluster.servers(&["web-1", "web-2"])?;
    cluster.serve_web(&["web-2"])?;
    cluster.manifests.apply_service_cidr()?;
    let labelled = web(OTHERS, "others")
        .pods([cluster.topology.pod("web-1")])
        .label("service.kubernetes.io/service-proxy-name", "other");
    cluster.manifests.apply(&labelled)?;
    let mut agents = cluster.agents()?;
    let (family, address) = match F::FAMILY {
        IpFamily::V4 => ("ip", OTHERS.of(F::FAMILY).to_string()),
        IpFamily::V6 => ("ip6", OTHERS.of(F::FAMILY).to_string()),
    };
    let backend = cluster.topology.pod("web-1").socket::<F>(TARGET);
    let rules = format!(
        "table {family} other {{
            chain services {{
                type nat hook prerouting priority dstnat;
                {family} daddr {address} tcp dport {PORT} dnat to {backend}
            }}
            chain sources {{
                type nat hook postrouting priority srcnat;
                ct status dnat masquerade
            }}
        }}"
    );
    let node = cluster.topology.node("anc-node").host().namespace();
    let _: String = node.output("nft", "-f -", &rules)?;
    let client = Client::new(cluster.topology.pod("client"));
    let answer = client.ask(Protocol::Tcp, SocketAddr::new(OTHERS.of(F::FAMILY), PORT))?;
    ensure!(answer.server == "web-1");
    let answer = client.ask(Protocol::Tcp, SocketAddr::new(WEB.of(F::FAMILY), PORT))?;
    ensure!(answer.server == "web-2");
    ensure!(agents.remove(0).stop()?.success());
    Ok(())
}

/// As caches of names have one on each node.
fn an_address_of_the_node_is_reached<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.manifests.apply_service_cidr()?;
    let node = cluster.topology.node("anc-node").host().namespace();
    let netlink = node.netlink()?;
    let address = NOBODY.of(F::FAMILY);
    netlink.add_address(netlink.link("lo")?, Prefix(address, F::FAMILY.host_prefix_length()))?;
    let mut agents = cluster.agents()?;
    let listener = node.run(|| Ok(TcpListener::bind(SocketAddr::new(address, PORT))?))?;
    let client = Client::new(cluster.topology.pod("client"));
    let _stream = client.connect(SocketAddr::new(address, PORT)).context("the node's address")?;
    drop(listener);
    ensure!(agents.remove(0).stop()?.success());
    Ok(())
}
