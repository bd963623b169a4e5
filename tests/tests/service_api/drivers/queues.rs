// SPDX-License-Identifier: Apache-2.0

//! Uplinks with several receive queues, whose frames are handled by several processors at once.

use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use proxy_common::counter::Reason;
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::netns::Card;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::DEVICE;
use proxy_tests::traffic::Client;

use super::{count, count_by_processors, with_cards};
use crate::rig::{Frontend, REMOTE, Rig};
use crate::uplinks::nodes;

both_families!(many_flows_on_several_queues, a_flow_changes_queues);

/// How many queues each device has in each direction.
const QUEUES: u32 = 4;
/// How many of them frames come by: a bridge sends by the one before that by which it has received, if there is one.
const USED: usize = 3;
/// Clients at once, and how often each of them asks on a connection and by datagrams.
const CLIENTS: usize = 16;
const ROUNDS: u64 = 150;

/// A network of many queues, in which the other node serves.
fn with_queues() -> Result<(Rig, Vec<Card>)> {
    let (rig, cards) = with_cards(nodes().queues(QUEUES))?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    Ok((rig, cards))
}

/// How many frames each queue of the node's uplink has received while something happened.
fn on_queues(rig: &Rig, happens: impl FnOnce() -> Result<()>) -> Result<Vec<u64>> {
    let received = || rig.node().namespace().received_by_queues(DEVICE);
    let before = received()?;
    happens()?;
    let received: Vec<u64> =
        received()?.into_iter().zip(before).map(|(now, then)| now - then).collect();
    ensure!(received.len() == usize::try_from(QUEUES)?, "{received:?}");
    Ok(received)
}

/// How many of some counters show more than this.
fn busy(counters: &[u64], least: u64) -> usize {
    counters.iter().filter(|counted| **counted > least).count()
}

/// Has the calling thread stay on one of the processors that it may run on. Says how many these are.
fn stay_on_one(which: usize) -> Result<usize> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let allowed: Vec<_> =
        (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    let mut only = CpuSet::new();
    only.set(allowed[which % allowed.len()])?;
    sched_setaffinity(this, &only)?;
    Ok(allowed.len())
}

/// Connections that stay, sockets of datagrams and new connections, of clients on all processors: each question, which
/// has a number, is answered.
fn many_flows_on_several_queues<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_queues()?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let (from, target) = (rig.outsider(), Frontend::LoadBalancer.target(F::FAMILY));
    let asks = |number: usize| -> Result<usize> {
        let processors = stay_on_one(number)?;
        let client = Client::new(from);
        let (mut connection, mut socket) = (client.stay(target)?, client.datagrams(target)?);
        for round in 0..ROUNDS {
            let _ = connection.exchange().with_context(|| format!("message {round}"))?;
            let _ = socket.ask().with_context(|| format!("datagram {round}"))?;
            if round % 10 == 0 {
                let _ = client.ask(Protocol::Tcp, target).context("a new connection")?;
            }
        }
        ensure!(connection.exchanged() == ROUNDS, "not all have come back");
        Ok(processors)
    };
    let before = count::<F>(&agent, Reason::XdpSent)?;
    let mut processors = 0;
    let received = on_queues(&rig, || {
        thread::scope(|scope| {
            let clients: Vec<_> =
                (0..CLIENTS).map(|number| scope.spawn(move || asks(number))).collect();
            for (number, client) in clients.into_iter().enumerate() {
                let asked = client.join().unwrap_or_else(|_| Err(anyhow!("it panicked")));
                processors = asked.with_context(|| format!("client {number}"))?;
            }
            Ok(())
        })
    })?;
    let sent = count::<F>(&agent, Reason::XdpSent)? - before;
    let all: u64 = received.iter().sum();
    ensure!(busy(&received, all / 40) == USED, "{received:?}");
    ensure!(all > u64::try_from(CLIENTS)? * ROUNDS * 4, "{received:?}");
    // The stack gets a packet a second for each of the two next hops, and what neighbours say to each other.
    ensure!(sent > all - all / 20, "{sent} of {received:?} have left from the driver");
    let by = count_by_processors::<F>(&agent, Reason::XdpSent)?;
    ensure!(busy(&by, all / 40) > 1 || processors == 1, "{by:?} of {processors} processors");
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Each packet by another queue than the one before, as chance will have it: a socket that is connected anew, to where
/// it was connected, has another hash.
fn a_flow_changes_queues<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_queues()?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let target = Frontend::LoadBalancer.target(F::FAMILY);
    let mut socket = Client::new(rig.outsider()).datagrams(target)?;
    let source = socket.ask()?.source;
    let flows = count::<F>(&agent, Reason::FlowCreated)?;
    let before = count::<F>(&agent, Reason::XdpSent)?;
    let received = on_queues(&rig, || {
        for question in 0..4 * ROUNDS {
            socket.connect(target)?;
            let answer = socket.ask().with_context(|| format!("datagram {question}"))?;
            ensure!(answer.source == source, "datagram {question} has come from {}", answer.source);
        }
        Ok(())
    })?;
    let sent = count::<F>(&agent, Reason::XdpSent)? - before;
    let all: u64 = received.iter().sum();
    // The answers come all by one, and an eighth of all frames or more by each of the others.
    ensure!(busy(&received, all / 16) == USED, "{received:?}");
    ensure!(sent > all - all / 20, "{sent} of {received:?} have left from the driver");
    ensure!(count::<F>(&agent, Reason::FlowCreated)? == flows, "another flow");
    ensure!(agent.stop()?.success());
    Ok(())
}
