// SPDX-License-Identifier: Apache-2.0

//! Routes that lead packets of the same flows elsewhere than they were, or than the node's own.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_common::counter::Reason;
use proxy_tests::both_families;
use proxy_tests::cluster::{TARGET, eventually};
use proxy_tests::family::{DualAddress, IpFamily, TestFamily};
use proxy_tests::netns::Prefix;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{DEVICE, Host, subnet_length};
use proxy_tests::traffic::Client;

use super::{count, with_another_uplink, with_cards};
use crate::rig::{Frontend, LOCAL, OTHER_NODE, REMOTE, Rig};
use crate::uplinks::{OTHER_UPLINK, nodes, pods_behind_the_router, send_otherwise};

both_families!(
    datagrams_keep_their_backend,
    by_the_device_that_packets_come_by,
    by_protocol_and_port,
);

/// How often the route changes: a backend that were chosen anew each time could be the same so often by chance once
/// in 1,024 runs.
const CHANGES: usize = 10;

/// A route by another uplink gives them another source, and nothing else.
fn datagrams_keep_their_backend<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_another_uplink(nodes())?;
    let pods = pods_behind_the_router(&rig, F::FAMILY)?;
    send_otherwise(&rig, Prefix(F::FAMILY.unspecified(), 0), "metric 2000")?;
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    let choice = format!("native={{{DEVICE},{OTHER_UPLINK}}}");
    let mut agent = rig.agent().argument("--xdp").argument(choice).start()?;
    let other = rig.cluster.topology.node(OTHER_NODE).host();
    let (client, target) = (Client::new(rig.outsider()), Frontend::LoadBalancer.target(F::FAMILY));
    let mut sockets = (0..64).map(|_| client.datagrams(target));
    let mut remote = sockets
        .find_map(|socket| {
            let mut socket = socket.ok()?;
            socket.ask().is_ok_and(|answer| answer.server == REMOTE).then_some(socket)
        })
        .context("no datagram reaches the other node")?;
    ensure!(remote.ask()?.server == REMOTE, "it is another one's already");
    ensure!(count::<F>(&agent, Reason::XdpSent)? > 0, "nothing has left from the driver");
    for change in 0..CHANGES {
        if change % 2 == 0 {
            send_otherwise(&rig, pods, "")?;
        } else {
            super::changes::route_directly(&rig, other, pods)?;
        }
        // The agent hears of it, and flows ask for their way again.
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(60));
            let server = remote.ask()?.server;
            ensure!(server == REMOTE, "after {change} changes it is {server}'s");
        }
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

/// What comes by the uplink has routes of its own (`ip rule ... iif`); to the node itself, the backends are nowhere.
fn by_the_device_that_packets_come_by<F: TestFamily>() -> Result<()> {
    leaves_by_rules::<F>(&[format!("iif {DEVICE}")])
}

/// The backend's ports have routes of their own (`ip rule ... dport`); others of it are nowhere.
fn by_protocol_and_port<F: TestFamily>() -> Result<()> {
    leaves_by_rules::<F>(&["tcp", "udp"].map(|it| format!("ipproto {it} dport {TARGET}")))
}

/// Packets leave from the driver by the way that these rules say, and no other.
fn leaves_by_rules<F: TestFamily>(rules: &[String]) -> Result<()> {
    let (rig, _cards) = with_cards(nodes())?;
    let other = rig.cluster.topology.node(OTHER_NODE).host();
    let pods = Prefix(DualAddress::pod(2, 0).of(F::FAMILY), subnet_length(F::FAMILY));
    route_by(&rig, rules, other, pods)?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let (client, target) = (Client::new(rig.outsider()), Frontend::LoadBalancer.target(F::FAMILY));
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let is_served = || client.ask(protocol, target).is_ok_and(|answer| answer.server == REMOTE);
        ensure!(eventually(is_served), "{protocol:?} is not served");
    }
    client.transfer(target, 1 << 20)?;
    ensure!(count::<F>(&agent, Reason::XdpSent)? > 100, "nothing has left from the driver");
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Has the node send to this network what rules choose, by the other node, and everything else to whoever there is not.
fn route_by(rig: &Rig, rules: &[String], other: &Host, network: Prefix) -> Result<()> {
    let option = if IpFamily::of(network.0) == IpFamily::V4 { "-4" } else { "-6" };
    let gateway = other.address(IpFamily::of(network.0));
    let node = rig.node().namespace();
    node.ip(&format!("{option} route add {network} via {gateway} dev {DEVICE} table 100"))?;
    for rule in rules {
        node.ip(&format!("{option} rule add {rule} lookup 100"))?;
    }
    node.ip(&format!("{option} route replace {network} dev {DEVICE}"))
}
