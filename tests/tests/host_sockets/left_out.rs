// SPDX-License-Identifier: Apache-2.0

//! Where pods are served at their sockets: those that are left out, and those whose backends go.

use std::io::ErrorKind;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::cluster::{PATIENCE, WEB};
use proxy_tests::family::TestFamily;
use proxy_tests::process::Process;
use proxy_tests::traffic::Client;

use super::rig::{Counted, NODE, PODS, Rig, Way, target};

both_families!(pods_can_be_left_out_and_their_sockets_end_with_their_backends);

fn pods_can_be_left_out_and_their_sockets_end_with_their_backends<F: TestFamily>() -> Result<()> {
    let rig = Rig::new()?;
    rig.cluster.serve_web(&PODS[..1])?;
    let mut agent = rig.cluster.agent(NODE).argument("--socket-lb=all").start()?;
    left_out::<F>(&rig, &agent)?;
    ended::<F>(&rig)?;
    ensure!(agent.stop()?.success());
    let mut agent = rig.agent()?;
    let error = fails(&agent, &["socket-lb", "list"])?;
    ensure!(error.contains("no agent that serves pods at their sockets"), "{error}");
    ensure!(agent.stop()?.success());
    Ok(())
}

fn left_out<F: TestFamily>(rig: &Rig, agent: &Agent<'_>) -> Result<()> {
    let [pod, other] = [rig.pod("client"), rig.pod(PODS[1])];
    let netns = pod.namespace().path();
    let netns = netns.to_str().context("a path in UTF-8")?;
    // Whether each way to ask goes through the socket; an answer comes in any case.
    let at_socket = |host| {
        let mut translated = Vec::new();
        for way in Way::ALL {
            let before = Counted::read::<F>(agent)?;
            let answer = way.ask(&Client::new(host), target::<F>(WEB))?;
            ensure!(answer.peer == target::<F>(WEB), "{way:?} {answer:?}");
            ensure!(answer.source.ip() == host.address(F::FAMILY), "{way:?} {answer:?}");
            translated.push(Counted::read::<F>(agent)?.translated - before.translated);
        }
        anyhow::Ok(translated)
    };
    ensure!(at_socket(pod)? == [1, 1, 1]);
    let _: String = succeeds(agent, &["socket-lb", "exclude", "--netns", netns])?;
    ensure!(at_socket(pod)? == [0, 0, 0]);
    ensure!(at_socket(other)? == [1, 1, 1]);
    let cookie = succeeds(agent, &["socket-lb", "list"])?;
    let _: String = succeeds(agent, &["socket-lb", "include", "--cookie", cookie.trim()])?;
    ensure!(succeeds(agent, &["socket-lb", "list"])?.is_empty());
    ensure!(at_socket(pod)? == [1, 1, 1]);

    let own = agent.process().context("it is running")?.id().to_string();
    let error = fails(agent, &["socket-lb", "exclude", "--pid", &own])?;
    ensure!(error.contains("the host's own network namespace"), "{error}");
    let error = fails(agent, &["socket-lb", "exclude", "--netns", "/proc/version"])?;
    ensure!(error.contains("is no network namespace to enter"), "{error}");
    Ok(())
}

/// The agent finds the network namespaces of pods by their processes.
fn ended<F: TestFamily>(rig: &Rig) -> Result<()> {
    let pod = rig.pod("client");
    let mut command = pod.namespace().command("sleep");
    let _ = command.arg("60");
    let _pause = Process::spawn(pod.namespace(), command)?;
    let client = Client::new(pod).patience(PATIENCE);
    let mut socket = client.datagrams(target::<F>(WEB))?;
    ensure!(socket.ask()?.server == PODS[0]);
    rig.cluster.serve_web(&PODS[1..2])?;
    let error = socket.socket().recv(&mut [0; 8]).err().context("an answer to nothing")?;
    ensure!(error.kind() == ErrorKind::ConnectionAborted, "{error}");
    socket.connect(target::<F>(WEB))?;
    ensure!(socket.ask()?.server == PODS[1]);
    Ok(())
}

fn succeeds(agent: &Agent<'_>, arguments: &[&str]) -> Result<String> {
    let output = agent.command(arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

fn fails(agent: &Agent<'_>, arguments: &[&str]) -> Result<String> {
    let output = agent.command(arguments)?;
    ensure!(!output.status.success(), "{arguments:?} succeeds");
    Ok(String::from_utf8(output.stderr)?)
}
