// SPDX-License-Identifier: Apache-2.0

//! Datagrams that are longer than the MTU, both ways through a Service.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::cluster::{Cluster, PORT, WEB};
use proxy_tests::{
    both_families,
    family::TestFamily,
    topology::{BetweenNodes, NodeSpec, TopologySpec},
    traffic::Client,
};

both_families!(
    long_datagrams_between_pods_of_one_node,
    long_datagrams_between_nodes,
    long_datagrams_through_a_tunnel,
    long_datagrams_to_oneself,
);

/// From two fragments to as many as there can be.
const LENGTHS: [usize; 4] = [1_500, 4_000, 20_000, 64_000];

/// Each datagram comes back whole.
fn echoes<F: TestFamily>(cluster: &Cluster, client: &str) -> Result<()> {
    cluster.serve_web(&["web-1"])?;
    let mut agents = cluster.agents()?;
    let _servers = cluster.servers(&["web-1"])?;
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    let client = cluster.topology.pod(client);
    for length in LENGTHS {
        let socket = Client::new(client).udp_socket(target)?;
        for round in 0..3_u8 {
            let sent: Vec<u8> = (0..=250).cycle().skip(round.into()).take(length).collect();
            let _: usize = socket.send(&sent)?;
            let mut answer = vec![0; 1 << 17];
            let length = socket.recv(&mut answer).with_context(|| format!("{length} bytes"))?;
            ensure!(answer[..length].ends_with(&sent), "another {length} bytes came back");
            ensure!(answer.starts_with(b"web-1 "));
        }
    }
    for agent in &mut agents {
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

fn long_datagrams_between_pods_of_one_node<F: TestFamily>() -> Result<()> {
    for node in [
        NodeSpec::bridge("anc-node"),
        NodeSpec::bridge_with_netfilter("anc-node"),
        NodeSpec::routed("anc-node"),
    ] {
        echoes::<F>(&Cluster::of(node)?, "client")?;
    }
    Ok(())
}

fn of_two_nodes<F: TestFamily>(spec: TopologySpec) -> Result<()> {
    let spec = spec
        .node(NodeSpec::bridge("anc-node").pod("client", 11))
        .node(NodeSpec::routed("other-node").pod("web-1", 22));
    echoes::<F>(&Cluster::new(&spec)?, "client")
}

fn long_datagrams_between_nodes<F: TestFamily>() -> Result<()> {
    of_two_nodes::<F>(TopologySpec::new())
}

fn long_datagrams_through_a_tunnel<F: TestFamily>() -> Result<()> {
    let spec = TopologySpec::new().between_nodes(BetweenNodes::Vxlan);
    of_two_nodes::<F>(spec.checksum_offload(false))
}

fn long_datagrams_to_oneself<F: TestFamily>() -> Result<()> {
    for node in [NodeSpec::bridge("anc-node"), NodeSpec::routed("anc-node")] {
        echoes::<F>(&Cluster::of(node)?, "web-1")?;
    }
    Ok(())
}
