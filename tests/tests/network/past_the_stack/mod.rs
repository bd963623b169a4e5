// SPDX-License-Identifier: Apache-2.0

//! The fast path: what goes past the host's stack, and that nobody notices but by the time it takes.

mod ways;

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::cluster::{Cluster, PATIENCE, PORT, TARGET, WEB, eventually, web};
use proxy_tests::{
    agent::Agent,
    both_families,
    family::{DualAddress, IpFamily, TestFamily},
    protocol::Protocol,
    topology::{BetweenNodes, Host, NodeSpec, TopologySpec},
    traffic::Client,
};

both_families!(
    pods_of_one_node_meet_past_the_stack,
    nodes_meet_past_the_stack,
    without_it_packets_are_forwarded,
    bridges_are_not_gone_past,
    connections_that_share_a_tuple_all_work,
    a_backend_that_goes_is_replaced,
    long_datagrams_come_whole,
    a_closed_port_refuses,
);

/// The node of the clients.
const NODE: &str = "fast-node";
/// Exchanges in each connection.
const EXCHANGES: usize = 50;
/// Bytes that are sent in one piece.
const MUCH: usize = 20_000_000;
/// Packets that a neighbour's discovery, or a server's late segment, may cost.
const FEW: u64 = 5;

/// Rules that have connections tracked, and drop nothing.
const TRACKING: &str = "table inet tracking { chain forward {
    type filter hook forward priority 0; ct state new,established counter;
}; }";

/// Packets that a node has forwarded.
fn forwarded(node: &Host, family: IpFamily) -> Result<u64> {
    let read = |name| node.namespace().run(move || Ok(fs::read_to_string(name)?));
    match family {
        IpFamily::V4 => {
            let text = read("/proc/thread-self/net/snmp")?;
            let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
            let names = lines.next().context("no names")?.split(' ');
            let numbers = lines.next().context("no numbers")?.split(' ');
            let mut pairs = names.zip(numbers);
            let (_, number) =
                pairs.find(|(name, _)| *name == "ForwDatagrams").context("not counted")?;
            Ok(number.parse()?)
        }
        IpFamily::V6 => {
            let text = read("/proc/thread-self/net/snmp6")?;
            let mut lines = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
            let (_, number) =
                lines.find(|(name, _)| *name == "Ip6OutForwDatagrams").context("not counted")?;
            Ok(number.trim().parse()?)
        }
    }
}

/// Talks to the Service from a pod in each way; says how many packets its node has forwarded.
fn talk<F: TestFamily>(cluster: &Cluster) -> Result<u64> {
    let node = cluster.topology.node(NODE).host();
    let client = Client::new(cluster.topology.pod("client"));
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    for protocol in Protocol::OF_SOCKETS {
        // Neighbours are learned.
        let _ = client.ask(protocol, target).with_context(|| protocol.name())?;
    }
    let before = forwarded(node, F::FAMILY)?;
    for protocol in Protocol::OF_SOCKETS {
        let answer = client.ask(protocol, target).with_context(|| protocol.name())?;
        ensure!(answer.server == "web-1", "{} has answered", answer.server);
    }
    let mut stream = client.stay(target)?;
    let mut datagrams = client.datagrams(target)?;
    for _ in 0..EXCHANGES {
        let _ = stream.exchange()?;
        let _ = datagrams.ask()?;
    }
    client.transfer(target, MUCH)?;
    Ok(forwarded(node, F::FAMILY)? - before)
}

fn fast(cluster: &Cluster) -> Result<Vec<Agent<'_>>> {
    let nodes = cluster.topology.nodes().map(|node| node.host().name());
    nodes.map(|node| cluster.agent(node).argument("--fast-path=on").start()).collect()
}

fn stop(agents: Vec<Agent<'_>>) -> Result<()> {
    for mut agent in agents {
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

fn one_node(node: NodeSpec) -> Result<Cluster> {
    let cluster = Cluster::new(
        &TopologySpec::new().node(node.pod("client", 11).pod("web-1", 12).pod("web-2", 13)),
    )?;
    cluster.serve_web(&["web-1"])?;
    Ok(cluster)
}

fn pods_of_one_node_meet_past_the_stack<F: TestFamily>() -> Result<()> {
    let cluster = one_node(NodeSpec::routed(NODE))?;
    let agents = fast(&cluster)?;
    let _servers = cluster.servers(&["web-1"])?;
    let packets = talk::<F>(&cluster)?;
    ensure!(packets <= FEW, "{packets} packets were forwarded");
    stop(agents)
}

/// Requests leave by the uplink's neighbour table, answers go from the uplink to the pod.
fn nodes_meet_past_the_stack<F: TestFamily>() -> Result<()> {
    for between in [BetweenNodes::Direct, BetweenNodes::Vxlan] {
        let spec = TopologySpec::new()
            .between_nodes(between)
            .node(NodeSpec::routed(NODE).pod("client", 11))
            .node(NodeSpec::routed("other-node").pod("web-1", 22));
        let cluster = Cluster::new(&spec)?;
        cluster.serve_web(&["web-1"])?;
        let agents = fast(&cluster)?;
        let _servers = cluster.servers(&["web-1"])?;
        let packets = talk::<F>(&cluster).with_context(|| format!("{between:?}"))?;
        ensure!(packets <= FEW, "{packets} packets were forwarded, {between:?}");
        stop(agents)?;
    }
    Ok(())
}

/// The count does count.
fn without_it_packets_are_forwarded<F: TestFamily>() -> Result<()> {
    let cluster = one_node(NodeSpec::routed(NODE))?;
    let agents = cluster.agents()?;
    let _servers = cluster.servers(&["web-1"])?;
    let packets = talk::<F>(&cluster)?;
    ensure!(packets > 4 * EXCHANGES as u64, "{packets} packets were forwarded");
    stop(agents)
}

/// A bridge switches what is between its ports, and whom its other ports belong to is not known.
fn bridges_are_not_gone_past<F: TestFamily>() -> Result<()> {
    let spec = TopologySpec::new()
        .node(NodeSpec::bridge(NODE).pod("client", 11))
        .node(NodeSpec::bridge("other-node").pod("web-1", 22));
    let cluster = Cluster::new(&spec)?;
    cluster.serve_web(&["web-1"])?;
    let agents = fast(&cluster)?;
    let _servers = cluster.servers(&["web-1"])?;
    let packets = talk::<F>(&cluster)?;
    ensure!(packets > 4 * EXCHANGES as u64, "{packets} packets were forwarded");
    stop(agents)
}

/// From one client port to two VIPs with the same only backend, and to that backend itself, whose
/// answers come through the stack.
fn connections_that_share_a_tuple_all_work<F: TestFamily>() -> Result<()> {
    let other = DualAddress::cluster_ip(11);
    let cluster = one_node(NodeSpec::routed(NODE))?;
    let backend = cluster.topology.pod("web-1");
    cluster.manifests.apply(&web(other, "other").pods([backend]))?;
    let agents = fast(&cluster)?;
    let _servers = cluster.servers(&["web-1"])?;
    let targets = [
        SocketAddr::new(WEB.of(F::FAMILY), PORT),
        SocketAddr::new(other.of(F::FAMILY), PORT),
        backend.socket::<F>(TARGET),
    ];
    for (port, order) in (45_000..).zip([[0, 1, 2], [2, 0, 1], [1, 2, 0]]) {
        let client = Client::new(cluster.topology.pod("client")).source_port(port);
        let mut streams = Vec::new();
        for place in order {
            streams.push(client.stay(targets[place]).with_context(|| format!("{order:?}"))?);
        }
        for _ in 0..EXCHANGES {
            for stream in &mut streams {
                let _ = stream.exchange()?;
            }
        }
    }
    stop(agents)
}

/// Datagrams go on to another backend; a connection stays, and new ones go to the other.
fn a_backend_that_goes_is_replaced<F: TestFamily>() -> Result<()> {
    let cluster = one_node(NodeSpec::routed(NODE))?;
    let agents = fast(&cluster)?;
    let _servers = cluster.servers(&["web-1", "web-2"])?;
    let client = Client::new(cluster.topology.pod("client"));
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    let socket = client.udp_socket(target)?;
    let asks = || -> Result<String> {
        let _: usize = socket.send(b"who?")?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    let mut stream = client.stay(target)?;
    for _ in 0..3 {
        ensure!(asks()?.starts_with("web-1 "));
        let _ = stream.exchange()?;
    }
    cluster.serve_web(&["web-2"])?;
    ensure!(eventually(|| asks().is_ok_and(|answer| answer.starts_with("web-2 "))));
    ensure!(client.ask(Protocol::Tcp, target)?.server == "web-2");
    // For longer than a second: the way of a flow is asked for anew.
    let end = Instant::now() + Duration::from_millis(2_500).min(PATIENCE);
    while Instant::now() < end {
        let _ = stream.exchange()?;
        ensure!(asks()?.starts_with("web-2 "));
    }
    stop(agents)
}

/// Where connections are tracked, too: the stack then puts fragments together, if it sees all of them.
fn long_datagrams_come_whole<F: TestFamily>() -> Result<()> {
    for rules in ["", TRACKING] {
        let cluster = one_node(NodeSpec::routed(NODE))?;
        let _ = cluster.topology.node(NODE).host().namespace().output("nft", "-f -", rules)?;
        long_datagrams::<F>(&cluster).with_context(|| format!("with the rules '{rules}'"))?;
    }
    Ok(())
}

fn long_datagrams<F: TestFamily>(cluster: &Cluster) -> Result<()> {
    let agents = fast(cluster)?;
    let _servers = cluster.servers(&["web-1"])?;
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    let client = Client::new(cluster.topology.pod("client"));
    // Neighbours are learned.
    let _ = client.ask(Protocol::Udp, target)?;
    let socket = client.udp_socket(target)?;
    for length in [1_500, 20_000, 64_000] {
        let sent: Vec<u8> = (0..=250).cycle().take(length).collect();
        for _ in 0..3 {
            let _: usize = socket.send(&sent)?;
            let mut answer = vec![0; 1 << 17];
            let length = socket.recv(&mut answer).with_context(|| format!("{length} bytes"))?;
            ensure!(answer[..length].ends_with(&sent), "another {length} bytes came back");
        }
    }
    stop(agents)
}

/// The backend's own refusals come back, by the fast path (RST) and through the stack (ICMP).
fn a_closed_port_refuses<F: TestFamily>() -> Result<()> {
    let cluster = one_node(NodeSpec::routed(NODE))?;
    let agents = fast(&cluster)?;
    let client = Client::new(cluster.topology.pod("client"));
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    for protocol in Protocol::OF_SOCKETS {
        let failure = client.ask(protocol, target).expect_err("nobody listens");
        ensure!(failure.is_refusal(), "{}: {failure}", protocol.name());
    }
    stop(agents)
}
