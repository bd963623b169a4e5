// SPDX-License-Identifier: Apache-2.0

//! Connections that would share a tuple at the backend all work.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::cluster::{Cluster, PATIENCE, PORT, TARGET, WEB, web};
use proxy_tests::{
    both_families,
    family::{DualAddress, TestFamily},
    topology::NodeSpec,
    traffic::Client,
};

both_families!(
    two_vips_and_a_direct_connection_share_a_port,
    closed_connections_give_their_port_up,
    peers_that_are_each_others_backends_are_told_apart,
);

/// A second Service with the same backend.
const OTHER: DualAddress = DualAddress::cluster_ip(11);
/// Until when a reset has arrived: it may wait on one processor while a SYN that is sent after it goes by another.
const ARRIVED: Duration = Duration::from_millis(200);
/// The client's port.
const CLIENT_PORT: u16 = 45_000;

/// From one client port to two VIPs with the same only backend and to that backend itself, in
/// each order.
fn two_vips_and_a_direct_connection_share_a_port<F: TestFamily>() -> Result<()> {
    for node in [NodeSpec::bridge("anc-node"), NodeSpec::routed("anc-node")] {
        let cluster = Cluster::of(node)?;
        let backend = cluster.topology.pod("web-1");
        cluster.serve_web(&["web-1"])?;
        cluster.manifests.apply(&web(OTHER, "other").pods([backend]))?;
        let mut agents = cluster.agents()?;
        let _servers = cluster.servers(&["web-1"])?;
        let targets = [
            SocketAddr::new(WEB.of(F::FAMILY), PORT),
            SocketAddr::new(OTHER.of(F::FAMILY), PORT),
            backend.socket::<F>(TARGET),
        ];
        for (port, order) in (CLIENT_PORT..).zip([[0, 1, 2], [2, 0, 1], [1, 2, 0]]) {
            let client = Client::new(cluster.topology.pod("client")).source_port(port);
            let mut streams = order.map(|place| client.stay(targets[place]));
            for _ in 0..20 {
                for stream in &mut streams {
                    let stream = stream
                        .as_mut()
                        .map_err(|failure| anyhow::anyhow!("order {order:?}: {failure}"))?;
                    let _ = stream.exchange()?;
                }
            }
            let mut ports: Vec<_> =
                streams.iter().flatten().map(|stream| stream.source().port()).collect();
            ensure!(ports[0] == port, "the first connection keeps its port");
            ports.sort_unstable();
            ports.dedup();
            ensure!(ports.len() == 3, "three connections at the backend: {ports:?}");
        }
        ensure!(agents.remove(0).stop()?.success());
    }
    Ok(())
}

/// From one client port to a VIP, to its only backend itself, and to the VIP again, each after the
/// other has been closed: none has to take another port.
fn closed_connections_give_their_port_up<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    let backend = cluster.topology.pod("web-1");
    cluster.serve_web(&["web-1"])?;
    let mut agents = cluster.agents()?;
    let _servers = cluster.servers(&["web-1"])?;
    let vip = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    let direct = backend.socket::<F>(TARGET);
    let client = Client::new(cluster.topology.pod("client")).source_port(CLIENT_PORT);
    for target in [vip, direct, vip, vip, direct, direct] {
        let mut stream = client.stay(target)?;
        let _ = stream.exchange()?;
        ensure!(stream.source().port() == CLIENT_PORT, "{target} saw {}", stream.source());
        drop(stream);
        thread::sleep(ARRIVED);
    }
    ensure!(agents.remove(0).stop()?.success());
    Ok(())
}

/// Two pods of a node with one port each, as peers of NTP have, ask each other by Services. A request then has
/// the addresses and ports of an answer in the other one's flow, but is none.
fn peers_that_are_each_others_backends_are_told_apart<F: TestFamily>() -> Result<()> {
    for node in [NodeSpec::bridge("anc-node"), NodeSpec::routed("anc-node")] {
        let cluster = Cluster::of(node)?;
        let peers = ["client", "web-1"].map(|name| cluster.topology.pod(name));
        cluster.manifests.apply(&web(WEB, "web").pods([peers[1]]))?;
        cluster.manifests.apply(&web(OTHER, "other").pods([peers[0]]))?;
        let mut agents = cluster.agents()?;
        let addresses = peers.map(|peer| peer.socket::<F>(TARGET));
        let vips = [WEB, OTHER].map(|vip| SocketAddr::new(vip.of(F::FAMILY), PORT));
        let bind = |place: usize| -> Result<UdpSocket> {
            let socket = peers[place].namespace().run(|| Ok(UdpSocket::bind(addresses[place])?))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        let sockets = [bind(0)?, bind(1)?];
        for round in 0..3 {
            for (asking, answering) in [(0, 1), (1, 0)] {
                let context = || format!("round {round}, of {}", peers[asking].name());
                let _: usize = sockets[asking].send_to(b"ask", vips[asking])?;
                let (_, from) = sockets[answering].recv_from(&mut [0; 16]).with_context(context)?;
                ensure!(from == addresses[asking], "{}: {from} has asked", context());
            }
            for (asking, answering) in [(0, 1), (1, 0)] {
                let _: usize = sockets[answering].send_to(b"answer", addresses[asking])?;
                let (_, from) = sockets[asking].recv_from(&mut [0; 16])?;
                ensure!(from == vips[asking], "round {round}: {from} has answered");
            }
        }
        ensure!(agents.remove(0).stop()?.success());
    }
    Ok(())
}
