// SPDX-License-Identifier: Apache-2.0

//! A load balancer that has the node's own address, as where there is one machine for all: what the
//! node itself does at that address goes on.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::{PORT, eventually};
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::manifests::Service;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{Host, NodeSpec, TopologySpec};
use proxy_tests::traffic::{Answer, Client, TcpServer, UdpServer};

use super::rig::{Frontend, LOCAL, NODE, OTHER_NODE, REMOTE, Rig, ask, is_served};

both_families!(
    a_load_balancer_may_have_the_nodes_address,
    connections_of_the_node_go_on_beside_a_load_balancer_at_its_address,
);

/// Where servers are that are no Service's: another port of the node's, or outside.
const OWN: u16 = 81;

fn rig() -> Result<Rig> {
    Rig::new(
        TopologySpec::new()
            .node(NodeSpec::bridge(NODE).pod("client", 11).pod(LOCAL, 12))
            .node(NodeSpec::routed(OTHER_NODE).pod(REMOTE, 22)),
    )
}

/// The Service with the node's address in place of the load balancer's.
fn balanced(rig: &Rig) -> Service {
    let service = rig.service(&[LOCAL, REMOTE]);
    service.load_balancer(IpFamily::ALL.map(|family| rig.node().address(family)))
}

fn servers(host: &Host, port: u16) -> Result<(TcpServer, UdpServer)> {
    Ok((TcpServer::start(host, port)?, UdpServer::start(host, port)?))
}

/// Whether the Service, and no server of the node's own, answers at the node's address.
fn serves(answer: &Answer) -> bool {
    [LOCAL, REMOTE].contains(&answer.server.as_str())
}

fn a_load_balancer_may_have_the_nodes_address<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    let (pod, outsider, node) = (rig.pod("client"), rig.outsider(), rig.node());
    let [of_pod, of_outsider, of_node] = [pod, outsider, node].map(|host| host.address(F::FAMILY));
    let _servers = (servers(node, OWN)?, servers(outsider, OWN)?);
    let target = SocketAddr::new(of_node, PORT);
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    let mut agent = rig.start()?;
    // Nobody listens there yet.
    let refusal = Client::new(outsider).ask(Protocol::Tcp, target).err();
    ensure!(refusal.context("it is served")?.is_refusal());
    // Connections from before, from the node and to it.
    let mut streams = [
        Client::new(node).stay(outsider.socket::<F>(OWN))?,
        Client::new(outsider).stay(node.socket::<F>(OWN))?,
        Client::new(pod).stay(node.socket::<F>(OWN))?,
    ];
    rig.cluster.manifests.apply(&balanced(&rig))?;
    for (from, servers) in [
        (outsider, [(LOCAL, of_outsider), (REMOTE, of_node)]),
        (pod, [(LOCAL, of_pod), (REMOTE, of_pod)]),
    ] {
        let comes = || Client::new(from).ask(Protocol::Tcp, target).is_ok();
        ensure!(eventually(comes), "{} is not served", from.name());
        is_served(from, target, &servers)?;
        // The node port stays beside it.
        is_served(from, Frontend::NodePort.target(F::FAMILY), &servers)?;
    }
    for protocol in Protocol::OF_SOCKETS {
        let seen = ask(node, protocol, target)?;
        ensure!(seen.keys().eq([LOCAL, REMOTE]), "{protocol} from the node: {seen:?}");
        // The node's own server at another port, and what the node asks others.
        for from in [outsider, pod, node] {
            let own = Client::new(from).ask(protocol, node.socket::<F>(OWN));
            let own = own.with_context(|| format!("{protocol} from {}", from.name()))?;
            ensure!(own.server == NODE, "{protocol} from {}: {own:?}", from.name());
        }
        let answer = Client::new(node).ask(protocol, outsider.socket::<F>(OWN))?;
        ensure!(answer.server == "outsider" && answer.source.ip() == of_node, "{answer:?}");
    }
    for stream in &mut streams {
        for _ in 0..100 {
            let _ = stream.exchange()?;
        }
    }
    // Without the address, the port is the node's again.
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    for from in [outsider, pod, node] {
        let is_refused = || {
            Client::new(from).ask(Protocol::Tcp, target).is_err_and(|failure| failure.is_refusal())
        };
        ensure!(eventually(is_refused), "{} is still served", from.name());
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Of the very port that the Service has there: the node is a client by that port, before and after it
/// is the Service's, or has a server there that has clients.
fn connections_of_the_node_go_on_beside_a_load_balancer_at_its_address<F: TestFamily>() -> Result<()>
{
    let rig = rig()?;
    let (pod, outsider, node) = (rig.pod("client"), rig.outsider(), rig.node());
    let target = node.socket::<F>(PORT);
    let _outside = (servers(outsider, OWN)?, servers(outsider, OWN + 1)?);
    let by_port = |to| Client::new(node).source_port(PORT).stay(outsider.socket::<F>(to));
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    let mut agent = rig.start()?;
    for is_client in [true, false] {
        let (mut streams, mut own) = (Vec::new(), None);
        if is_client {
            streams.push(by_port(OWN)?);
        } else {
            own = Some(TcpServer::start(node, PORT)?);
            for from in [outsider, pod] {
                streams.push(Client::new(from).stay(target)?);
            }
        }
        rig.cluster.manifests.apply(&balanced(&rig))?;
        for from in [outsider, pod] {
            let answer = || Client::new(from).ask(Protocol::Tcp, target);
            let comes = || answer().is_ok_and(|answer| serves(&answer));
            ensure!(eventually(comes), "{} is not served", from.name());
        }
        if is_client {
            streams.push(by_port(OWN + 1)?);
            let is_right = streams.iter().all(|stream| stream.source() == target);
            ensure!(is_right, "{streams:?}");
        }
        for stream in &mut streams {
            for _ in 0..100 {
                let _ = stream.exchange().with_context(|| format!("{stream:?}"))?;
            }
        }
        drop((streams, own));
        rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
        let goes = || Client::new(outsider).ask(Protocol::Tcp, target).is_err();
        ensure!(eventually(goes), "it is still served");
    }
    ensure!(agent.stop()?.success());
    Ok(())
}
