// SPDX-License-Identifier: Apache-2.0

//! Pods reach Services, wherever the backends are.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::cluster::{Cluster, PORT, WEB};
use proxy_tests::{
    both_families,
    family::TestFamily,
    protocol::Protocol,
    topology::{BetweenNodes, Families, NodeSpec, TopologySpec},
    traffic::Client,
};

both_families!(
    pods_behind_a_bridge,
    pods_behind_a_bridge_with_netfilter,
    routed_pods,
    pods_of_two_nodes,
    pods_of_two_nodes_over_vxlan,
    pods_without_checksum_offload,
    pods_whose_agent_uses_clsact,
    nodes_of_one_family,
    pods_that_are_their_own_backends,
);

const PODS: [&str; 3] = ["web-1", "web-2", "web-3"];

/// Each client reaches the Service's pods in fair shares, and is seen by its own address.
fn serves<F: TestFamily>(cluster: &Cluster, clients: &[&str]) -> Result<()> {
    let _servers = cluster.servers(&PODS)?;
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    for client in clients {
        let host = cluster.topology.pod(client);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let answer = Client::new(host)
                .ask(protocol, target)
                .with_context(|| format!("{} from {client}", protocol.name()))?;
            ensure!(answer.source.ip() == host.address(F::FAMILY), "seen as {}", answer.source);
            let shares = Client::new(host).ask_often(protocol, target, 300);
            ensure!(shares.is_fair(&PODS), "{} from {client}: {shares}", protocol.name());
        }
        let mut stream = Client::new(host).stay(target)?;
        for _ in 0..100 {
            let _ = stream.exchange()?;
        }
    }
    Ok(())
}

fn on_one_node<F: TestFamily>(node: NodeSpec, arguments: &[&str]) -> Result<()> {
    let cluster = Cluster::of(node)?;
    cluster.serve_web(&PODS)?;
    let mut agent = cluster.agent("anc-node");
    for argument in arguments {
        agent = agent.argument(argument);
    }
    let mut agent = agent.start()?;
    serves::<F>(&cluster, &["client"])?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn pods_behind_a_bridge<F: TestFamily>() -> Result<()> {
    on_one_node::<F>(NodeSpec::bridge("anc-node"), &[])
}

fn pods_behind_a_bridge_with_netfilter<F: TestFamily>() -> Result<()> {
    on_one_node::<F>(NodeSpec::bridge_with_netfilter("anc-node"), &[])
}

fn routed_pods<F: TestFamily>() -> Result<()> {
    on_one_node::<F>(NodeSpec::routed("anc-node"), &[])
}

fn pods_whose_agent_uses_clsact<F: TestFamily>() -> Result<()> {
    on_one_node::<F>(NodeSpec::bridge("anc-node"), &["--attach=clsact"])
}

/// Two nodes, of both kinds, around what `spec` says already.
fn on_two_nodes<F: TestFamily>(spec: TopologySpec) -> Result<()> {
    let spec = spec
        .node(NodeSpec::bridge("anc-node").pod("client-1", 11).pod("web-1", 12))
        .node(NodeSpec::routed("other-node").pod("client-2", 21).pod("web-2", 22).pod("web-3", 23));
    let cluster = Cluster::new(&spec)?;
    cluster.serve_web(&PODS)?;
    let mut agents = cluster.agents()?;
    serves::<F>(&cluster, &["client-1", "client-2"])?;
    for agent in &mut agents {
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

fn pods_of_two_nodes<F: TestFamily>() -> Result<()> {
    on_two_nodes::<F>(TopologySpec::new())
}

fn pods_of_two_nodes_over_vxlan<F: TestFamily>() -> Result<()> {
    on_two_nodes::<F>(TopologySpec::new().between_nodes(BetweenNodes::Vxlan))
}

fn pods_without_checksum_offload<F: TestFamily>() -> Result<()> {
    on_two_nodes::<F>(TopologySpec::new().checksum_offload(false))
}

/// The Service is of both families: its other half has nowhere to go, and harms nobody.
fn nodes_of_one_family<F: TestFamily>() -> Result<()> {
    on_two_nodes::<F>(TopologySpec::new().families(Families::Single(F::FAMILY)))
}

/// A pod that is the only backend reaches itself, and sees the node in its place.
fn pods_that_are_their_own_backends<F: TestFamily>() -> Result<()> {
    for node in [
        NodeSpec::bridge("anc-node"),
        NodeSpec::bridge_with_netfilter("anc-node"),
        NodeSpec::routed("anc-node"),
    ] {
        let cluster = Cluster::of(node)?;
        cluster.serve_web(&["web-1"])?;
        let mut agents = cluster.agents()?;
        let _servers = cluster.servers(&["web-1"])?;
        let pod = cluster.topology.pod("web-1");
        let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let answer = Client::new(pod).ask(protocol, target)?;
            ensure!(answer.server == "web-1");
            ensure!(answer.source.ip() != pod.address(F::FAMILY), "seen as itself");
        }
        let mut stream = Client::new(pod).stay(target)?;
        for _ in 0..100 {
            let _ = stream.exchange()?;
        }
        ensure!(agents.remove(0).stop()?.success());
    }
    Ok(())
}
