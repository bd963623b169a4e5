// SPDX-License-Identifier: Apache-2.0

//! The topologies work without any proxy, and leave nothing behind.

mod harness {
    mod cgroups;
    mod datagrams;
    mod load;
}

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{BetweenNodes, Families, NodeSpec, Topology, TopologySpec};
use proxy_tests::traffic::{Client, HttpServer, TcpServer, UdpServer, is_refused_at_once};

const TCP_PORT: u16 = 7000;
const HTTP_PORT: u16 = 8080;
const UDP_PORT: u16 = 5353;

both_families!(
    bridge_pods_reach_each_other,
    bridge_pods_reach_each_other_through_iptables,
    routed_pods_reach_each_other,
    pods_of_two_nodes_reach_each_other,
    pods_reach_each_other_through_vxlan,
    pods_reach_each_other_without_checksum_offload,
    pods_reach_each_other_in_a_single_family,
    nodes_and_outsiders_reach_pods,
    refusals_and_silence_are_told_apart,
    fixed_ports_are_reusable,
    pods_come_and_go,
);

fn two_pods(node: NodeSpec) -> TopologySpec {
    TopologySpec::new().node(node.pod("web-1", 12).pod("web-2", 13))
}

fn two_nodes() -> TopologySpec {
    TopologySpec::new()
        .node(NodeSpec::bridge("anc-node").pod("web-1", 12))
        .node(NodeSpec::routed("other-node").pod("web-2", 21))
}

/// `from` reaches `to` over all protocols and is seen by its own address.
fn reaches<F: TestFamily>(topology: &Topology, from: &str, to: &str) -> Result<()> {
    let (client, server) = (topology.pod(from), topology.pod(to));
    let _tcp = TcpServer::start(server, TCP_PORT)?;
    let _http = HttpServer::start(server, HTTP_PORT)?;
    let _udp = UdpServer::start(server, UDP_PORT)?;
    let client = Client::new(client);
    let answers = [
        client.ask(Protocol::Tcp, server.socket::<F>(TCP_PORT)),
        client.ask(Protocol::Udp, server.socket::<F>(UDP_PORT)),
        client.get(server.socket::<F>(HTTP_PORT)),
    ];
    for answer in answers {
        let answer = answer.with_context(|| format!("from {from} to {to}"))?;
        assert_eq!(answer.server, to);
        assert_eq!(answer.source.ip(), topology.pod(from).address(F::FAMILY));
    }
    let mut stream = client.stay(server.socket::<F>(TCP_PORT))?;
    for _ in 0..100 {
        let _ = stream.exchange()?;
    }
    assert_eq!(stream.exchanged(), 100);
    assert_eq!(stream.source(), stream.local()?);
    Ok(())
}

fn bridge_pods_reach_each_other<F: TestFamily>() -> Result<()> {
    reaches::<F>(&two_pods(NodeSpec::bridge("anc-node")).build()?, "web-1", "web-2")
}

fn bridge_pods_reach_each_other_through_iptables<F: TestFamily>() -> Result<()> {
    let topology = two_pods(NodeSpec::bridge_with_netfilter("anc-node")).build()?;
    reaches::<F>(&topology, "web-1", "web-2")
}

fn routed_pods_reach_each_other<F: TestFamily>() -> Result<()> {
    reaches::<F>(&two_pods(NodeSpec::routed("anc-node")).build()?, "web-1", "web-2")
}

fn pods_of_two_nodes_reach_each_other<F: TestFamily>() -> Result<()> {
    let topology = two_nodes().build()?;
    reaches::<F>(&topology, "web-1", "web-2")?;
    reaches::<F>(&topology, "web-2", "web-1")
}

fn pods_reach_each_other_through_vxlan<F: TestFamily>() -> Result<()> {
    let topology = two_nodes().between_nodes(BetweenNodes::Vxlan).build()?;
    reaches::<F>(&topology, "web-1", "web-2")?;
    reaches::<F>(&topology, "web-2", "web-1")
}

fn pods_reach_each_other_without_checksum_offload<F: TestFamily>() -> Result<()> {
    reaches::<F>(&two_nodes().checksum_offload(false).build()?, "web-1", "web-2")
}

fn pods_reach_each_other_in_a_single_family<F: TestFamily>() -> Result<()> {
    for between in [BetweenNodes::Direct, BetweenNodes::Vxlan] {
        let families = Families::Single(F::FAMILY);
        let topology = two_nodes().families(families).between_nodes(between).build()?;
        reaches::<F>(&topology, "web-1", "web-2")?;
        let missing = IpFamily::ALL.into_iter().find(|family| *family != F::FAMILY);
        let missing = topology.pod("web-2").address(missing.context("the other family")?);
        let target = (missing, TCP_PORT).into();
        ensure!(Client::new(topology.pod("web-1")).ask(Protocol::Tcp, target).is_err());
    }
    Ok(())
}

fn nodes_and_outsiders_reach_pods<F: TestFamily>() -> Result<()> {
    let topology = two_nodes().outsider("outside", 100).build()?;
    let node = topology.node("other-node").host();
    let _servers =
        [TcpServer::start(node, TCP_PORT)?, TcpServer::start(topology.pod("web-1"), TCP_PORT)?];
    let pod = topology.pod("web-1").socket::<F>(TCP_PORT);
    assert_eq!(Client::new(node).ask(Protocol::Tcp, pod)?.source.ip(), F::underlay(2));
    let own = Client::new(topology.node("anc-node").host()).ask(Protocol::Tcp, pod)?;
    assert_eq!(own.server, "web-1");
    let outside = Client::new(topology.outsider("outside"));
    let answer = outside.ask(Protocol::Tcp, node.socket::<F>(TCP_PORT))?;
    assert_eq!((answer.server.as_str(), answer.source.ip()), ("other-node", F::underlay(100)));
    Ok(())
}

fn refusals_and_silence_are_told_apart<F: TestFamily>() -> Result<()> {
    let topology = two_pods(NodeSpec::bridge("anc-node")).build()?;
    let client = Client::new(topology.pod("web-1"));
    for protocol in Protocol::OF_SOCKETS {
        let nobody = topology.pod("web-2").socket::<F>(1);
        let _ = is_refused_at_once(|| client.ask(protocol, nobody)).context(protocol)?;
        let client = client.patience(Duration::from_millis(200));
        let silent = client.ask(protocol, (F::cluster_ip(1), 80).into());
        let silent = silent.expect_err("nobody has this address");
        assert!(silent.is_timeout(), "{protocol}: {silent}");
    }
    Ok(())
}

fn fixed_ports_are_reusable<F: TestFamily>() -> Result<()> {
    let topology = two_pods(NodeSpec::routed("anc-node")).build()?;
    let server = topology.pod("web-2");
    let _tcp = TcpServer::start(server, TCP_PORT)?;
    let _udp = UdpServer::start(server, UDP_PORT)?;
    let client = Client::new(topology.pod("web-1")).source_port(40_000);
    for (protocol, port) in [(Protocol::Tcp, TCP_PORT), (Protocol::Udp, UDP_PORT)] {
        for _ in 0..3 {
            let answer = client.ask(protocol, server.socket::<F>(port))?;
            assert_eq!(answer.source, topology.pod("web-1").socket::<F>(40_000));
        }
        let shares = client.ask_often(protocol, server.socket::<F>(port), 20);
        assert!(shares.is_fair(&["web-2"]), "{shares}");
    }
    Ok(())
}

fn pods_come_and_go<F: TestFamily>() -> Result<()> {
    let mut topology = two_pods(NodeSpec::routed("anc-node")).build()?;
    let node = topology.node("anc-node").host().namespace().netlink()?;
    let before = BTreeSet::from_iter(node.link_names()?);
    topology.add_pod("anc-node", "web-3", 14)?;
    reaches::<F>(&topology, "web-1", "web-3")?;
    reaches::<F>(&topology, "web-3", "web-2")?;
    topology.remove_pod("web-3")?;
    assert_eq!(BTreeSet::from_iter(node.link_names()?), before);
    Ok(())
}

#[test]
fn twenty_pods_do_not_take_long() -> Result<()> {
    let start = Instant::now();
    let pods = (10..30)
        .fold(NodeSpec::bridge("anc-node"), |node, host| node.pod(&format!("web-{host}"), host));
    let _topology = TopologySpec::new().node(pods).build()?;
    let made = start.elapsed();
    // It takes a fraction of a second where nothing else runs.
    ensure!(made < Duration::from_secs(20), "it took {made:?}");
    Ok(())
}
