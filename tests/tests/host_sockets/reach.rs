// SPDX-License-Identifier: Apache-2.0

//! Processes of the host reach Services wherever the backends are, and nobody else is touched.

use std::net::IpAddr;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::cluster::{TARGET, WEB, eventually, web};
use proxy_tests::family::{DualAddress, TestFamily};
use proxy_tests::manifests::{Endpoint, Service};
use proxy_tests::process::Process;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::Host;
use proxy_tests::traffic::{Client, Shares};

use super::rig::{Counted, NODE, OTHER_NODE, PODS, Rig, SILENCE, Way, flows, target};
use super::stops::{is_over, is_running};

both_families!(processes_reach_services_and_nobody_else_is_touched);

/// A Service with iperf3 behind it.
const IPERF3: DualAddress = DualAddress::cluster_ip(30);
/// The port that it has by default.
const IPERF3_PORT: u16 = 5201;
/// The first of the cluster IPs of Services with one backend each.
const FIRST: u8 = 20;

fn processes_reach_services_and_nobody_else_is_touched<F: TestFamily>() -> Result<()> {
    let rig = Rig::new()?;
    let places = [rig.pod(PODS[0]), rig.pod(PODS[3]), rig.node(NODE), rig.node(OTHER_NODE)];
    let places: Vec<_> = (FIRST..).map(DualAddress::cluster_ip).zip(places).collect();
    for (vip, host) in &places {
        let service = web(*vip, host.name()).endpoints([Endpoint::of(host)]);
        rig.cluster.manifests.apply(&service)?;
    }
    rig.cluster.serve_web(&PODS)?;
    let streams = Service::dual("iperf3", IPERF3)
        .port("tcp", Protocol::Tcp, IPERF3_PORT, IPERF3_PORT)
        .port("udp", Protocol::Udp, IPERF3_PORT, IPERF3_PORT);
    rig.cluster.manifests.apply(&streams.pods(rig.pods(&PODS[1..2])))?;
    let mut agent = rig.agent()?;
    for (vip, host) in &places {
        reaches::<F>(&rig, *vip, host).with_context(|| format!("a backend on {}", host.name()))?;
    }
    ensure!(flows(&agent)?.is_empty(), "packets of the host were translated");
    shares_are_fair::<F>(&rig)?;
    for (vip, host) in &places {
        is_untouched::<F>(&rig, *vip, host).with_context(|| format!("{} itself", host.name()))?;
    }
    pods_are_not_touched::<F>(&rig, &agent)?;
    rig.is_not_served::<F>(&agent, WEB, false).context("a process of another group")?;
    rig.is_not_served::<F>(&agent, WEB, true).context("a socket of another group")?;
    let other = Client::new(rig.node(OTHER_NODE)).patience(SILENCE);
    for way in Way::ALL {
        let failure = way.ask(&other, target::<F>(WEB)).expect_err("that node has no agent");
        ensure!(failure.is_timeout(), "{way:?} {failure}");
    }
    iperf3_measures::<F>(&rig)?;
    is_running(&rig)?;
    let mut stream = rig.client().stay(target::<F>(WEB))?;
    ensure!(agent.stop()?.success());
    is_over::<F>(&rig, &mut stream)
}

/// Who asks from the node is seen there by the address that the kernel takes for it.
fn source<F: TestFamily>(rig: &Rig, server: &Host) -> IpAddr {
    if server.name() == PODS[0] { F::pod(1, 1) } else { rig.node(NODE).address(F::FAMILY) }
}

fn reaches<F: TestFamily>(rig: &Rig, vip: DualAddress, host: &Host) -> Result<()> {
    let target = target::<F>(vip);
    for (client, form, way) in rig.clients::<F>() {
        let context = || format!("{form:?} {way:?}");
        let answer = way.ask(&client, target).with_context(context)?;
        ensure!(answer.server == host.name(), "{answer:?}, {}", context());
        ensure!(answer.peer == form.of(target), "{answer:?}, {}", context());
        ensure!(answer.source.ip() == source::<F>(rig, host), "{answer:?}, {}", context());
        // As the kernel names it without a datagram.
        if way == Way::Connected {
            ensure!(client.datagrams(target)?.peer()? == form.of(target), "{}", context());
        }
    }
    let mut stream = rig.client().stay(target)?;
    for _ in 0..100 {
        let _ = stream.exchange()?;
    }
    Ok(())
}

fn shares_are_fair<F: TestFamily>(rig: &Rig) -> Result<()> {
    for (client, form, way) in rig.clients::<F>() {
        let shares: Shares = (0..200).map(|_| way.ask(&client, target::<F>(WEB))).collect();
        ensure!(shares.is_fair(&PODS), "{form:?} {way:?}: {shares}");
    }
    Ok(())
}

/// A server that is asked by its own address is seen by it, whatever the socket was given before.
fn is_untouched<F: TestFamily>(rig: &Rig, vip: DualAddress, host: &Host) -> Result<()> {
    let (own, vip) = (host.socket::<F>(TARGET), target::<F>(vip));
    for (client, form, way) in rig.clients::<F>() {
        let answer = way.ask(&client, own)?;
        ensure!(answer.server == host.name() && answer.peer == form.of(own), "{form:?} {answer:?}");
        if way == Way::Stream {
            continue;
        }
        let mut socket = client.unconnected(F::FAMILY)?;
        for target in [own, vip, own, vip, own] {
            let answer = if way == Way::Connected {
                socket.connect(target)?;
                ensure!(socket.peer()? == form.of(target), "{form:?} is connected to another");
                socket.ask()?
            } else {
                socket.ask_at(target)?
            };
            ensure!(answer.peer == form.of(target), "{form:?} {way:?} {target}: {answer:?}");
        }
    }
    Ok(())
}

/// Pods have their packets translated, and nothing done to their sockets.
fn pods_are_not_touched<F: TestFamily>(rig: &Rig, agent: &Agent<'_>) -> Result<()> {
    let before = Counted::read::<F>(agent)?;
    let client = Client::new(rig.pod("client"));
    for protocol in Protocol::OF_SOCKETS {
        let shares = client.ask_often(protocol, target::<F>(WEB), 20);
        ensure!(shares.failures.is_empty(), "{protocol} {shares}");
    }
    ensure!(Counted::read::<F>(agent)? == before, "sockets of pods were given backends");
    ensure!(flows(agent)?.contains(&target::<F>(WEB)), "no packet of a pod was translated");
    Ok(())
}

/// A program that nobody has written for this runs streams of both protocols.
fn iperf3_measures<F: TestFamily>(rig: &Rig) -> Result<()> {
    let pod = rig.pod(PODS[1]).namespace();
    let mut command = pod.command("iperf3");
    let _ = command.arg("--server").stdin(Stdio::null()).stdout(Stdio::null());
    let _server = Process::spawn(pod, command)?;
    let node = rig.node(NODE).namespace();
    for options in ["", "--udp --bitrate 100M"] {
        let words = format!("--client {} --time 1 {options}", IPERF3.of(F::FAMILY));
        // The server may not listen yet, or be at the end of the stream before.
        let mut result = Ok(String::new());
        let done = eventually(|| {
            result = node.output("iperf3", &words, "");
            result.is_ok()
        });
        ensure!(done, "{:#}", result.err().context("it succeeded late")?);
    }
    Ok(())
}
