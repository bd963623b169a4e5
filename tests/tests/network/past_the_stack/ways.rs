// SPDX-License-Identifier: Apache-2.0

//! The way of a flow past the stack: it is that of the node's routes, and nobody else's.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::cluster::{Cluster, PORT, TARGET, WEB, eventually};
use proxy_tests::{
    both_families,
    family::{IpFamily, TestFamily},
    protocol::Protocol,
    topology::{Host, NodeSpec, pod_device},
    traffic::Client,
};

use super::{FEW, NODE, fast, forwarded, one_node, stop};

both_families!(
    short_exchanges_go_past_the_stack,
    a_route_that_moves_is_followed_whoever_speaks,
    who_comes_by_another_device_is_answered_there,
    nobody_speaks_for_another,
);

/// How long is waited for what must not come.
const SILENCE: Duration = Duration::from_millis(300);
/// How long is waited for what must come.
const PATIENCE: Duration = Duration::from_secs(2);
/// A client's port.
const CLIENT_PORT: u16 = 46_000;

/// A flow of one datagram and its answer is never confirmed, and most segments of a short connection begin or
/// end it.
fn short_exchanges_go_past_the_stack<F: TestFamily>() -> Result<()> {
    let cluster = one_node(NodeSpec::routed(NODE))?;
    let agents = fast(&cluster)?;
    let _servers = cluster.servers(&["web-1"])?;
    let client = Client::new(cluster.topology.pod("client"));
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    // Neighbours are learned.
    let _ = client.ask(Protocol::Udp, target)?;
    let node = cluster.topology.node(NODE).host();
    for protocol in Protocol::OF_SOCKETS {
        let before = forwarded(node, F::FAMILY)?;
        for _ in 0..20 {
            let _ = client.ask(protocol, target)?;
        }
        let packets = forwarded(node, F::FAMILY)? - before;
        ensure!(packets <= FEW, "{packets} packets of {} were forwarded", protocol.name());
    }
    stop(agents)
}

/// Gives one pod the address of another, too.
fn share_address<F: TestFamily>(of: &Host, with: &Host) -> Result<()> {
    let length = F::FAMILY.host_prefix_length();
    let nodad = if F::FAMILY == IpFamily::V6 { "nodad" } else { "" };
    let address = of.address(F::FAMILY);
    with.namespace().ip(&format!("address add {address}/{length} dev eth0 {nodad}"))
}

/// Has the node send what is for one pod to another.
fn move_route<F: TestFamily>(cluster: &Cluster, of: &str, to: &str) -> Result<()> {
    let family = if F::FAMILY == IpFamily::V6 { "-6" } else { "-4" };
    let address = cluster.topology.pod(of).address(F::FAMILY);
    let device = pod_device(to);
    let node = cluster.topology.node(NODE).host().namespace();
    node.ip(&format!("{family} route replace {address} dev {device}"))
}

/// A UDP socket of a pod, with this address of its own.
fn socket(pod: &Host, address: SocketAddr) -> Result<UdpSocket> {
    let socket = pod.namespace().run(|| Ok(UdpSocket::bind(address)?))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Has the node learn where the backend is, which refuses: before, there is no way past the stack.
fn learn<F: TestFamily>(cluster: &Cluster) -> Result<()> {
    let client = Client::new(cluster.topology.pod("client"));
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    let failure = client.ask(Protocol::Udp, target).expect_err("nobody listens");
    ensure!(failure.is_refusal(), "{failure}");
    Ok(())
}

/// A server that speaks all the time keeps its flow fresh: the client's packets are asked about all the
/// same.
fn a_route_that_moves_is_followed_whoever_speaks<F: TestFamily>() -> Result<()> {
    let cluster = one_node(NodeSpec::routed(NODE))?;
    let (first, second) = (cluster.topology.pod("web-1"), cluster.topology.pod("web-2"));
    share_address::<F>(first, second)?;
    let agents = fast(&cluster)?;
    learn::<F>(&cluster)?;
    let address = first.socket::<F>(TARGET);
    let (speaker, heir) = (socket(first, address)?, socket(second, address)?);
    heir.set_read_timeout(Some(SILENCE))?;
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    let client = Client::new(cluster.topology.pod("client")).udp_socket(target)?;
    let heard = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let _: usize = client.send(b"begin")?;
    let (_, asker) = speaker.recv_from(&mut [0; 16])?;
    thread::scope(|scope| {
        let speaking = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                let _: usize = speaker.send_to(b"news", asker)?;
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        });
        let hearing = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _ = heard.fetch_add(heir.recv(&mut [0; 16]).is_ok().into(), Ordering::Relaxed);
            }
        });
        let moved = (|| {
            let _: usize = client.recv(&mut [0; 16]).context("no news")?;
            let _: usize = client.send(b"thanks")?;
            move_route::<F>(&cluster, "web-1", "web-2")?;
            let is_followed = eventually(|| {
                thread::sleep(Duration::from_millis(100));
                client.send(b"more").is_ok() && heard.load(Ordering::Relaxed) > 0
            });
            ensure!(is_followed, "the client's packets still go by the old route");
            anyhow::Ok(())
        })();
        over.store(true, Ordering::Relaxed);
        let spoken = speaking.join().ok().context("a thread panicked")?;
        hearing.join().ok().context("a thread panicked")?;
        moved.and(spoken)
    })?;
    stop(agents)
}

/// As of a pod that has got the address of another, and by chance a port, while the flow is known.
fn who_comes_by_another_device_is_answered_there<F: TestFamily>() -> Result<()> {
    let cluster = one_node(NodeSpec::routed(NODE))?;
    let (former, present) = (cluster.topology.pod("client"), cluster.topology.pod("web-2"));
    share_address::<F>(former, present)?;
    let agents = fast(&cluster)?;
    learn::<F>(&cluster)?;
    let _servers = cluster.servers(&["web-1"])?;
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    let node = cluster.topology.node(NODE).host();
    let address = former.socket::<F>(CLIENT_PORT);
    let ask = |socket: &UdpSocket| -> Result<usize> {
        let _: usize = socket.send_to(b"who?", target)?;
        Ok(socket.recv(&mut [0; 64])?)
    };
    let socket_of_former = socket(former, address)?;
    let before = forwarded(node, F::FAMILY)?;
    for _ in 0..3 {
        let _: usize = ask(&socket_of_former).context("the former pod")?;
    }
    ensure!(forwarded(node, F::FAMILY)? == before, "the flow goes through the stack");
    move_route::<F>(&cluster, "client", "web-2")?;
    let socket_of_present = socket(present, address)?;
    for _ in 0..3 {
        let _: usize = ask(&socket_of_present).context("the present pod")?;
    }
    stop(agents)
}

/// A pod that sends in the name of another, as its backend or as its client, gets no further than without
/// the fast path: the stack looks at where it comes from, in IPv4, and it changes nothing for the flow.
fn nobody_speaks_for_another<F: TestFamily>() -> Result<()> {
    let cluster = one_node(NodeSpec::routed(NODE))?;
    let [client, backend, liar] =
        ["client", "web-1", "web-2"].map(|name| cluster.topology.pod(name));
    let agents = fast(&cluster)?;
    learn::<F>(&cluster)?;
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    let (asker, server) = (client.socket::<F>(CLIENT_PORT), backend.socket::<F>(TARGET));
    let (asking, serving) = (socket(client, asker)?, socket(backend, server)?);
    let exchange = || -> Result<()> {
        let _: usize = asking.send_to(b"who?", target)?;
        let (_, from) = serving.recv_from(&mut [0; 16]).context("the server hears nothing")?;
        ensure!(from == asker, "{from} has asked");
        let _: usize = serving.send_to(b"me", asker)?;
        let mut answer = [0; 16];
        let (length, from) = asking.recv_from(&mut answer).context("the client hears nothing")?;
        ensure!((&answer[..length], from) == (&b"me"[..], target), "{from} has answered");
        Ok(())
    };
    let node = cluster.topology.node(NODE).host();
    (0..3).try_for_each(|_| exchange())?;
    let before = forwarded(node, F::FAMILY)?;
    let lies = [(backend, server, asker, &asking), (client, asker, target, &serving)];
    for (of, from, to, hearing) in &lies {
        share_address::<F>(of, liar)?;
        let _: usize = socket(liar, *from)?.send_to(b"lie", to)?;
        let is_let_through = F::FAMILY == IpFamily::V6;
        hearing.set_read_timeout(Some(if is_let_through { PATIENCE } else { SILENCE }))?;
        let heard = hearing.recv(&mut [0; 16]);
        ensure!(heard.is_ok() == is_let_through, "{heard:?} of what was sent to {to}");
        hearing.set_read_timeout(Some(PATIENCE))?;
        // What is sent to its own addresses would stay with it.
        let length = F::FAMILY.host_prefix_length();
        let address = of.address(F::FAMILY);
        liar.namespace().ip(&format!("address delete {address}/{length} dev eth0"))?;
    }
    if F::FAMILY == IpFamily::V6 {
        let packets = forwarded(node, F::FAMILY)? - before;
        ensure!(packets == lies.len() as u64, "{packets} of the lies went through the stack");
    }
    let before = forwarded(node, F::FAMILY)?;
    (0..3).try_for_each(|_| exchange())?;
    let packets = forwarded(node, F::FAMILY)? - before;
    ensure!(packets == 0, "{packets} packets of the flow went through the stack");
    stop(agents)
}
