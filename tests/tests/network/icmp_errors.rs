// SPDX-License-Identifier: Apache-2.0

//! Errors about packets through a Service reach those who sent them, as about what they sent.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::socket_errors::{Told, next_error, remember_errors, set_hops};
use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use proxy_tests::cluster::{Cluster, PORT, TARGET, WEB, eventually};
use proxy_tests::{
    both_families,
    family::TestFamily,
    topology::{Host, NodeSpec, TopologySpec},
    traffic::Client,
};

both_families!(
    bridged_pods_trace_the_way_to_a_backend,
    routed_pods_trace_the_way_to_a_backend,
    a_backend_that_refuses_does_so_as_the_service,
    a_client_that_has_gone_tells_the_backend,
    a_pod_tells_itself,
);

/// A client's datagram to a Service, with what it hears of it.
struct Probe {
    socket: UdpSocket,
}

impl Probe {
    fn send<F: TestFamily>(host: &Host, hops: Option<u8>) -> Result<Self> {
        let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
        let socket = Client::new(host).udp_socket(target)?;
        remember_errors(&socket, F::FAMILY)?;
        if let Some(hops) = hops {
            set_hops(&socket, F::FAMILY, hops)?;
        }
        let _: usize = socket.send(b"?")?;
        Ok(Self { socket })
    }

    fn error(&self) -> Result<Told> {
        next_error(&self.socket)
    }
}

/// A node with a client, and another one with a backend.
fn far_backend(node: fn(&str) -> NodeSpec) -> Result<Cluster> {
    let spec = TopologySpec::new()
        .node(node("anc-node").pod("client", 11))
        .node(node("other-node").pod("web-1", 22));
    let cluster = Cluster::new(&spec)?;
    cluster.serve_web(&["web-1"])?;
    Ok(cluster)
}

fn traces<F: TestFamily>(node: fn(&str) -> NodeSpec) -> Result<()> {
    let cluster = far_backend(node)?;
    let mut agents = cluster.agents()?;
    let _servers = cluster.servers(&["web-1"])?;
    let client = cluster.topology.pod("client");
    let address = |name| cluster.topology.node(name).host().address(F::FAMILY);
    // The node has several addresses, of which it takes one.
    let nodes: [Vec<IpAddr>; 2] =
        [vec![address("anc-node"), F::pod(1, 1)], vec![address("other-node")]];
    for (hops, node) in (1..).zip(&nodes) {
        let told = Probe::send::<F>(client, Some(hops))?.error()?;
        ensure!(told.errno == Errno::EHOSTUNREACH && node.contains(&told.reporter), "{told:?}");
    }
    let probe = Probe::send::<F>(client, Some(3))?;
    let mut answer = [0; 64];
    let length = probe.socket.recv(&mut answer).context("from the backend")?;
    ensure!(answer[..length].starts_with(b"web-1 "));

    // TCP hears of it, too: of a SYN that gets no further than the node.
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    let connecting = client.namespace().run(|| {
        let kind = socket2::Type::STREAM;
        let socket = socket2::Socket::new(socket2::Domain::for_address(target), kind, None)?;
        remember_errors(&socket, F::FAMILY)?;
        set_hops(&socket, F::FAMILY, 1)?;
        Ok(socket.connect_timeout(&target.into(), Duration::from_secs(2)))
    })?;
    let error = connecting.expect_err("it gets no further than the node");
    ensure!(error.kind() == ErrorKind::HostUnreachable, "{error}");
    for agent in &mut agents {
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

fn bridged_pods_trace_the_way_to_a_backend<F: TestFamily>() -> Result<()> {
    traces::<F>(NodeSpec::bridge)
}

fn routed_pods_trace_the_way_to_a_backend<F: TestFamily>() -> Result<()> {
    traces::<F>(NodeSpec::routed)
}

/// Nobody listens there: the backend's error comes from the cluster IP, since it came from the
/// backend itself.
fn a_backend_that_refuses_does_so_as_the_service<F: TestFamily>() -> Result<()> {
    let clusters = [
        far_backend(NodeSpec::bridge)?,
        far_backend(NodeSpec::routed)?,
        Cluster::of(NodeSpec::bridge("anc-node"))?,
        Cluster::of(NodeSpec::bridge_with_netfilter("anc-node"))?,
    ];
    for cluster in clusters {
        cluster.serve_web(&["web-1"])?;
        let mut agents = cluster.agents()?;
        let told = Probe::send::<F>(cluster.topology.pod("client"), None)?.error()?;
        let expected = Told { errno: Errno::ECONNREFUSED, reporter: WEB.of(F::FAMILY) };
        ensure!(told == expected, "{told:?}");
        for agent in &mut agents {
            ensure!(agent.stop()?.success());
        }
    }
    Ok(())
}

/// The backend answers when the client's socket is closed: it is told so, as by the client.
fn a_client_that_has_gone_tells_the_backend<F: TestFamily>() -> Result<()> {
    for cluster in [far_backend(NodeSpec::bridge)?, Cluster::of(NodeSpec::bridge("anc-node"))?] {
        cluster.serve_web(&["web-1"])?;
        let mut agents = cluster.agents()?;
        let (client, backend) = (cluster.topology.pod("client"), cluster.topology.pod("web-1"));
        let server =
            backend.namespace().run(|| Ok(UdpSocket::bind(backend.socket::<F>(TARGET))?))?;
        server.set_read_timeout(Some(Duration::from_secs(2)))?;
        remember_errors(&server, F::FAMILY)?;
        let probe = Probe::send::<F>(client, None)?;
        let (_, source) = server.recv_from(&mut [0; 64]).context("the request")?;
        drop(probe);
        server.connect(source)?;
        // The socket's end may take a moment.
        let told = || server.send(b"!").is_err();
        ensure!(eventually(told), "the backend is not told");
        let told = next_error(&server)?;
        let expected = Told { errno: Errno::ECONNREFUSED, reporter: client.address(F::FAMILY) };
        ensure!(told == expected, "{told:?}");
        for agent in &mut agents {
            ensure!(agent.stop()?.success());
        }
    }
    Ok(())
}

/// A pod that is its own backend, and does not listen.
fn a_pod_tells_itself<F: TestFamily>() -> Result<()> {
    for node in [NodeSpec::bridge("anc-node"), NodeSpec::routed("anc-node")] {
        let cluster = Cluster::of(node)?;
        cluster.serve_web(&["web-1"])?;
        let mut agents = cluster.agents()?;
        let told = Probe::send::<F>(cluster.topology.pod("web-1"), None)?.error()?;
        let expected = Told { errno: Errno::ECONNREFUSED, reporter: WEB.of(F::FAMILY) };
        ensure!(told == expected, "{told:?}");
        ensure!(agents.remove(0).stop()?.success());
    }
    Ok(())
}
