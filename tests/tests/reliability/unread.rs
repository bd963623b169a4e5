// SPDX-License-Identifier: Apache-2.0

//! An agent that is started while the API is away.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proxy_agent::bpf::Version;
use proxy_tests::agent::Agent;
use proxy_tests::cluster::PORT;
use proxy_tests::family::IpFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{Host, pod_device};
use proxy_tests::traffic::Client;

use super::changes::{Changes, GOES, SOON, State};
use super::distant::DistantApi;
use super::rig::{NEAR, NODE, Rig, ends_well};

/// How long there is no agent.
const WITHOUT: Duration = Duration::from_secs(10);
/// How long the agent may take to say that it cannot read objects.
const MISSED: Duration = Duration::from_secs(20);
/// How long the agent may take to find the API again: its pauses have grown to half a minute, by chance to twice that.
const FOUND: Duration = Duration::from_secs(80);
/// How long a pod may take to be served: the kernel takes up to a second until a new port of a bridge is one.
const PLUGGED: Duration = Duration::from_secs(3);
/// How long it may take to mend something: the agent looks every ten seconds.
const MENDED: Duration = Duration::from_secs(15);
/// Longer than an answer takes.
const PATIENCE: Duration = Duration::from_millis(200);

/// By what the agent says that objects cannot be read, and that they have been.
const UNREAD: &str =
    "not all objects can be read: what an agent before has left serves on, and new pods, too";
const READ: &str = "all objects have been read, and hold from now on";

/// Whether a pod reaches a Service that is there before what changes, in both families and over both protocols.
fn is_served(pod: &Host) -> Result<()> {
    let client = Client::new(pod).patience(PATIENCE);
    for family in IpFamily::ALL {
        for protocol in Protocol::OF_SOCKETS {
            let answer = client.ask(protocol, SocketAddr::new(GOES.of(family), PORT));
            let answer = answer.with_context(|| format!("{protocol} of {}", pod.name()))?;
            ensure!(answer.server == NEAR, "{answer:?}");
        }
    }
    Ok(())
}

fn is_served_within(pod: &Host, within: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        match is_served(pod) {
            Err(_) if start.elapsed() < within => thread::sleep(Duration::from_millis(10)),
            served => return served.with_context(|| format!("not within {within:?}")),
        }
    }
}

/// Takes the program off that is at the ingress of a pod's device.
fn detach(rig: &Rig, agent: &Agent<'_>, pod: &str) -> Result<()> {
    let device = format!("-o link show {}", pod_device(pod));
    let shown = rig.node().namespace().output("ip", &device, "")?;
    let index = shown.split(':').next().context("it has an index")?;
    let version = Version::all(agent.pin_root())?.pop().context("there is one")?;
    let link = version.links().open(&format!("{index}-ingress"))?;
    link.context("it is pinned")?.detach();
    Ok(())
}

#[test]
fn started_without_the_api() -> Result<()> {
    let rig = Rig::new()?;
    let distant = DistantApi::new(&rig)?;
    let changes = Changes::new(&rig, distant.objects())?;
    let beside = rig.cluster.topology.late_pod(NODE, "beside", 31)?;
    let mut agent = distant.agent(&rig).start()?;
    is_served_within(&beside, PLUGGED)?;
    let (load, begun) = (rig.load()?, Instant::now());

    load.note("the agent is killed, and the API goes");
    agent.kill();
    distant.way.down();
    changes.make()?;
    detach(&rig, &agent, "beside")?;
    ensure!(is_served(&beside).is_err(), "it needs no program");
    let early = rig.cluster.topology.late_pod(NODE, "early", 32)?;
    thread::sleep(WITHOUT);
    let _: Duration = changes.are_seen(State::Before, Duration::ZERO)?;
    ensure!(is_served(&early).is_err(), "it needs no agent");

    load.note("the agent is started");
    agent.begin()?;
    agent.wait_for(UNREAD, MISSED)?;
    load.note("it has said that it cannot read objects");
    is_served_within(&early, SOON)?;
    is_served_within(&beside, SOON).context("what was detached without an agent")?;
    let late = rig.cluster.topology.late_pod(NODE, "late", 33)?;
    is_served_within(&late, PLUGGED)?;
    detach(&rig, &agent, "beside")?;
    is_served_within(&beside, MENDED).context("what was detached since")?;
    let _: Duration = changes.are_seen(State::Before, Duration::ZERO)?;
    let log = agent.log()?;
    ensure!(log.matches(UNREAD).count() == 1, "{log}");
    ensure!(!log.contains("\"ready\"") && !log.contains(READ), "{log}");

    load.note("the API is back, with another state");
    distant.way.up()?;
    agent.wait_for(READ, FOUND)?;
    changes.are_seen_soon(State::After)?;
    agent.wait_until_ready()?;
    ensure!(is_served(&late).is_err(), "a Service that is gone");

    let report = ends_well(load, begun)?;
    changes.ensure_prompt(&report)?;
    ensure!(report.moved() == 0, "clients were moved, though nobody left:\n{report}");
    ensure!(agent.stop()?.success());
    Ok(())
}
