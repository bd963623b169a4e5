// SPDX-License-Identifier: Apache-2.0

//! The MTU of a path through a Service is found, and by whoever must know it.

use std::net::SocketAddr;

use super::socket_errors::{discover_path_mtu, next_error, path_mtu, remember_errors};
use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use proxy_tests::cluster::{Cluster, PORT, WEB, eventually};
use proxy_tests::{
    both_families,
    family::{IpFamily, TestFamily},
    topology::{BetweenNodes, NodeSpec, TopologySpec},
    traffic::Client,
};

both_families!(
    bridged_pods_find_the_mtu_of_a_tunnel,
    bridged_pods_with_netfilter_find_the_mtu_of_a_tunnel,
    routed_pods_find_the_mtu_of_a_tunnel,
);

/// The MTU of the nodes' network, in bytes.
const UNDERLAY: u32 = 1500;
/// What vxlan over IPv4 leaves of it: less 20 of IPv4, 8 of UDP, 8 of vxlan, 14 of Ethernet.
const TUNNEL: u32 = UNDERLAY - 50;
/// Bytes of a transfer.
const TRANSFER: usize = 4 << 20;

/// The client's pods have the MTU of the nodes' network, and the backend is behind the tunnel.
fn finds<F: TestFamily>(node: fn(&str) -> NodeSpec) -> Result<()> {
    let spec = TopologySpec::new()
        .between_nodes(BetweenNodes::Vxlan)
        .pods_know_tunnels(false)
        .node(node("anc-node").pod("client", 11))
        .node(node("other-node").pod("web-1", 22));
    let cluster = Cluster::new(&spec)?;
    cluster.serve_web(&["web-1"])?;
    let mut agents = cluster.agents()?;
    let _servers = cluster.servers(&["web-1"])?;
    let client = Client::new(cluster.topology.pod("client"));
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);

    // What is too long is not sent, once the path is known.
    let socket = client.udp_socket(target)?;
    discover_path_mtu(&socket, F::FAMILY)?;
    remember_errors(&socket, F::FAMILY)?;
    ensure!(path_mtu(&socket, F::FAMILY)? == UNDERLAY, "the path is known already");
    let headers = match F::FAMILY {
        IpFamily::V4 => 20 + 8,
        IpFamily::V6 => 40 + 8,
    };
    let longest = vec![7; UNDERLAY as usize - headers];
    let _: usize = socket.send(&longest)?;
    let told = next_error(&socket).context("about the datagram")?;
    ensure!(told.errno == Errno::EMSGSIZE, "{told:?}");
    ensure!(path_mtu(&socket, F::FAMILY)? == TUNNEL, "{}", path_mtu(&socket, F::FAMILY)?);
    let error = socket.send(&longest).expect_err("it is too long now");
    ensure!(error.raw_os_error() == Some(Errno::EMSGSIZE as i32), "{error}");
    let answered = || {
        let mut answer = [0; 2048];
        // Errors from before come first.
        socket.send(&longest[..1000]).is_ok() && matches!(socket.recv(&mut answer), Ok(1000..))
    };
    ensure!(eventually(answered), "what fits is not answered");

    // Segments are cut as small as they must be, in both directions.
    client.transfer(target, TRANSFER).context("a transfer")?;
    for agent in &mut agents {
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

fn bridged_pods_find_the_mtu_of_a_tunnel<F: TestFamily>() -> Result<()> {
    finds::<F>(NodeSpec::bridge)
}

fn bridged_pods_with_netfilter_find_the_mtu_of_a_tunnel<F: TestFamily>() -> Result<()> {
    finds::<F>(NodeSpec::bridge_with_netfilter)
}

fn routed_pods_find_the_mtu_of_a_tunnel<F: TestFamily>() -> Result<()> {
    finds::<F>(NodeSpec::routed)
}
