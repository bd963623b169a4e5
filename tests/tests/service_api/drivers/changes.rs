// SPDX-License-Identifier: Apache-2.0

//! Routes, neighbours, backends and ways that change under load: nothing is lost.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use proxy_common::counter::Reason;
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::cluster::eventually;
use proxy_tests::family::{DualAddress, IpFamily, TestFamily};
use proxy_tests::netns::Prefix;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{DEVICE, Host, subnet_length};
use proxy_tests::traffic::Client;

use super::{count, detach_from_drivers, with_another_uplink, with_cards};
use crate::rig::{Frontend, LOCAL, OTHER_NODE, REMOTE, Rig};
use crate::uplinks::{OTHER_UPLINK, nodes, pods_behind_the_router, send_otherwise};

both_families!(
    routes_move_between_uplinks,
    neighbours_are_forgotten,
    a_route_gets_an_mtu,
    backends_come_and_go,
    flows_outlive_the_program_in_the_driver,
);

/// How often something changes.
const CHANGES: usize = 8;
/// How long is asked between two changes.
const BETWEEN: Duration = Duration::from_millis(400);

/// The neighbours whose addresses are known, as ip-neighbour(8) names their states. With one that is just being asked for,
/// the kernel forgets what waits for the answer.
const RESOLVED: &str = "nud reachable nud stale nud delay nud probe";

/// What a load has had answered: messages on one connection, datagrams of one socket, and connections.
#[derive(Debug)]
pub(super) struct Answered {
    messages: u64,
    datagrams: u64,
    connections: u64,
}

/// Asks all the time while something happens; each question, which has a number, must be answered.
pub(super) fn under_load(
    from: &Host,
    target: SocketAddr,
    happens: impl FnOnce() -> Result<()>,
) -> Result<Answered> {
    let over = AtomicBool::new(false);
    let client = Client::new(from);
    let mut connection = client.stay(target)?;
    let mut socket = client.datagrams(target)?;
    let until = |each: &mut dyn FnMut() -> Result<()>| -> Result<u64> {
        let mut count = 0;
        while !over.load(Ordering::Relaxed) {
            each().with_context(|| format!("after {count}"))?;
            count += 1;
            thread::sleep(Duration::from_millis(1));
        }
        Ok(count)
    };
    thread::scope(|scope| {
        let messages = scope.spawn(|| until(&mut || Ok(connection.exchange().map(drop)?)));
        let datagrams = scope.spawn(|| until(&mut || Ok(socket.ask().map(drop)?)));
        let connections =
            scope.spawn(|| until(&mut || Ok(client.ask(Protocol::Tcp, target).map(drop)?)));
        let happened = happens();
        over.store(true, Ordering::Relaxed);
        let joined = |thread: ScopedJoinHandle<'_, Result<u64>>, what| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("it panicked"))).context(what)
        };
        let answered = Answered {
            messages: joined(messages, "messages on one connection")?,
            datagrams: joined(datagrams, "datagrams of one socket")?,
            connections: joined(connections, "connections")?,
        };
        happened.map(|()| answered)
    })
}

/// There must have been much, and it must have left from the driver.
pub(super) fn is_much<F: TestFamily>(answered: &Answered, agent: &Agent<'_>) -> Result<()> {
    let Answered { messages, datagrams, connections } = *answered;
    ensure!(messages.min(datagrams).min(connections) > 200, "{answered:?}");
    let sent = count::<F>(agent, Reason::XdpSent)?;
    ensure!(sent > messages + datagrams, "{sent} packets have left from the driver: {answered:?}");
    Ok(())
}

/// Of two uplinks with programs in their drivers, the backend's node is reached by the one, then by the other.
fn routes_move_between_uplinks<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_another_uplink(nodes())?;
    let pods = pods_behind_the_router(&rig, F::FAMILY)?;
    // What leads out by default is an uplink, if not the best.
    send_otherwise(&rig, Prefix(F::FAMILY.unspecified(), 0), "metric 2000")?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let choice = format!("native={{{DEVICE},{OTHER_UPLINK}}}");
    let mut agent = rig.agent().argument("--xdp").argument(choice).start()?;
    let other = rig.cluster.topology.node(OTHER_NODE).host();
    let target = Frontend::LoadBalancer.target(F::FAMILY);
    let answered = under_load(rig.outsider(), target, || {
        for change in 0..CHANGES {
            thread::sleep(BETWEEN);
            if change % 2 == 0 {
                send_otherwise(&rig, pods, "")?;
            } else {
                route_directly(&rig, other, pods)?;
            }
        }
        Ok(())
    })?;
    is_much::<F>(&answered, &agent)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Has the node send what is for this network to the other node.
pub(super) fn route_directly(rig: &Rig, other: &Host, network: Prefix) -> Result<()> {
    route(rig, network, other.address(IpFamily::of(network.0)), "")
}

/// Has the node send what is for this network by this gateway.
fn route(rig: &Rig, network: Prefix, gateway: IpAddr, more: &str) -> Result<()> {
    let option = if network.0.is_ipv4() { "-4" } else { "-6" };
    let words = format!("{option} route replace {network} via {gateway} dev {DEVICE} {more}");
    rig.node().namespace().ip(&words)
}

/// The stack has to answer what is too large, so all goes through it from then on; and what is transferred arrives.
fn a_route_gets_an_mtu<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_cards(nodes())?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let target = Frontend::LoadBalancer.target(F::FAMILY);
    let client = Client::new(rig.outsider());
    client.transfer(target, 1 << 20)?;
    ensure!(count::<F>(&agent, Reason::XdpSent)? > 100, "nothing has left from the driver");
    let other = rig.cluster.topology.node(OTHER_NODE).host();
    let pods = Prefix(DualAddress::pod(2, 0).of(F::FAMILY), subnet_length(F::FAMILY));
    route(&rig, pods, other.address(F::FAMILY), "mtu 1300")?;
    // The agent hears of it.
    let goes_up = || {
        let sent = || count::<F>(&agent, Reason::XdpSent).unwrap_or_default();
        let before = sent();
        client.ask(Protocol::Udp, target).is_ok() && sent() == before
    };
    ensure!(eventually(goes_up), "what is too large may leave from the driver");
    let before = count::<F>(&agent, Reason::XdpSent)?;
    client.transfer(target, 1 << 20)?;
    let sent = count::<F>(&agent, Reason::XdpSent)? - before;
    ensure!(sent == 0, "{sent} packets have left from the driver");
    ensure!(agent.stop()?.success());
    Ok(())
}

/// They are asked for again, by the stack.
fn neighbours_are_forgotten<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_cards(nodes())?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let target = Frontend::LoadBalancer.target(F::FAMILY);
    let answered = under_load(rig.outsider(), target, || {
        for _ in 0..CHANGES {
            thread::sleep(BETWEEN);
            rig.node().namespace().ip(&format!("neigh flush dev {DEVICE} {RESOLVED}"))?;
        }
        Ok(())
    })?;
    is_much::<F>(&answered, &agent)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// A Service whose backend is on the other node, then on this one.
fn backends_come_and_go<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_cards(nodes())?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let target = Frontend::LoadBalancer.target(F::FAMILY);
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let is_remote = || {
        let answer = Client::new(rig.outsider()).ask(Protocol::Tcp, target);
        answer.is_ok_and(|answer| answer.server == REMOTE)
    };
    ensure!(eventually(is_remote), "it is not served");
    let answered = under_load(rig.outsider(), target, || {
        for change in 0..CHANGES {
            thread::sleep(BETWEEN);
            let backend = if change % 2 == 0 { LOCAL } else { REMOTE };
            rig.cluster.manifests.apply(&rig.service(&[backend]))?;
        }
        Ok(())
    })?;
    is_much::<F>(&answered, &agent)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Whoever takes it off, the stack goes on with the flows.
fn flows_outlive_the_program_in_the_driver<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_cards(nodes())?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let target = Frontend::LoadBalancer.target(F::FAMILY);
    let answered = under_load(rig.outsider(), target, || {
        thread::sleep(BETWEEN);
        let sent = count::<F>(&agent, Reason::XdpSent)?;
        ensure!(sent > 100, "{sent} packets have left from the driver");
        detach_from_drivers(&agent)?;
        let sent = count::<F>(&agent, Reason::XdpSent)?;
        thread::sleep(BETWEEN);
        ensure!(count::<F>(&agent, Reason::XdpSent)? == sent, "the program runs still");
        Ok(())
    })?;
    ensure!(
        answered.messages.min(answered.datagrams).min(answered.connections) > 50,
        "{answered:?}"
    );
    ensure!(agent.stop()?.success());
    Ok(())
}
