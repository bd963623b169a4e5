// SPDX-License-Identifier: Apache-2.0

//! Where pods are served at their sockets: those that are left out, and those whose backends go.

use std::io::ErrorKind;
use std::ops::Range;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::maps::{HashMap, MapData};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use proxy_agent::bpf::object::{map_directory, pinned};
use proxy_common::map_names;
use proxy_common::socket::{LeftOut, MAX_LEFT_OUT};
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::cluster::{PATIENCE, WEB};
use proxy_tests::family::TestFamily;
use proxy_tests::process::Process;
use proxy_tests::topology::Host;
use proxy_tests::traffic::Client;

use super::rig::{Counted, NODE, PODS, Rig, Way, target};

both_families!(
    pods_can_be_left_out_and_their_sockets_end_with_their_backends,
    who_is_left_out_and_silent_makes_room_and_is_told_of,
);

/// The cookie of a network namespace that is nobody's, and the next ones.
const NOBODY: u64 = 1 << 40;

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

/// Whether each way to ask goes through the socket; an answer comes in any case.
fn at_socket<F: TestFamily>(agent: &Agent<'_>, host: &Host) -> Result<Vec<u64>> {
    let mut translated = Vec::new();
    for way in Way::ALL {
        let before = Counted::read::<F>(agent)?;
        let answer = way.ask(&Client::new(host), target::<F>(WEB))?;
        ensure!(answer.peer == target::<F>(WEB), "{way:?} {answer:?}");
        ensure!(answer.source.ip() == host.address(F::FAMILY), "{way:?} {answer:?}");
        translated.push(Counted::read::<F>(agent)?.translated - before.translated);
    }
    Ok(translated)
}

/// Those that go are none whose processes ask, and the operator hears which.
fn who_is_left_out_and_silent_makes_room_and_is_told_of<F: TestFamily>() -> Result<()> {
    let rig = Rig::new()?;
    rig.cluster.serve_web(&PODS[..1])?;
    let mut agent = rig.cluster.agent(NODE).argument("--socket-lb=all").start()?;
    thread::scope(|scope| {
        let pushed = scope.spawn(|| {
            // Each processor has room of its own in such a table: from one alone, the first that is too many pushes
            // others out.
            let allowed = sched_getaffinity(Pid::from_raw(0))?;
            let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
            let mut only = CpuSet::new();
            only.set(first.context("no processor")?)?;
            sched_setaffinity(Pid::from_raw(0), &only)?;
            push_out::<F>(&rig, &agent)
        });
        pushed.join().map_err(|_| anyhow!("the thread panicked"))?
    })?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn push_out<F: TestFamily>(rig: &Rig, agent: &Agent<'_>) -> Result<()> {
    const AT_ONCE: u64 = 512;
    let [pod, other] = [rig.pod("client"), rig.pod(PODS[1])];
    let exclude = |host: &Host| -> Result<String> {
        let netns = host.namespace().path();
        let netns = netns.to_str().context("a path in UTF-8")?;
        let output = agent.command(&["socket-lb", "exclude", "--netns", netns])?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stderr)?)
    };
    let said = exclude(pod)?;
    ensure!(said.is_empty(), "{said}");
    let own: u64 = succeeds(agent, &["socket-lb", "list"])?.trim().parse()?;
    let mut table: HashMap<MapData, u64, LeftOut> =
        pinned(&map_directory(agent.pin_root()), map_names::LEFT_OUT)?.try_into()?;
    let mut fill = |cookies: Range<u64>| -> Result<()> {
        for cookie in cookies {
            table.insert(cookie, LeftOut::YES, 0)?;
            if cookie % AT_ONCE == 0 {
                ensure!(at_socket::<F>(agent, pod)? == [0, 0, 0], "it is served at its sockets");
            }
        }
        Ok(())
    };
    let all = u64::from(MAX_LEFT_OUT);
    fill(NOBODY..NOBODY + all - 1)?;
    ensure!(at_socket::<F>(agent, other)? == [1, 1, 1], "it was never left out");
    let said = exclude(other)?;
    ensure!(said.contains("the map LEFT_OUT is full"), "{said}");
    let (_, gone) = said.trim().rsplit_once(": ").context("who has gone")?;
    let gone = gone.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    ensure!(!gone.is_empty() && !gone.contains(&own), "{own}, and {gone:?}");
    ensure!(at_socket::<F>(agent, other)? == [0, 0, 0], "who comes is left out");
    // As many again, while the one asks now and then.
    fill(NOBODY + all..NOBODY + 2 * all)?;
    ensure!(at_socket::<F>(agent, pod)? == [0, 0, 0]);
    let left: Vec<u64> = succeeds(agent, &["socket-lb", "list"])?
        .lines()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    ensure!(left.len() <= MAX_LEFT_OUT as usize && left.contains(&own), "{}", left.len());
    ensure!(gone.iter().all(|cookie| !left.contains(cookie)), "{gone:?}");
    Ok(())
}

fn left_out<F: TestFamily>(rig: &Rig, agent: &Agent<'_>) -> Result<()> {
    let [pod, other] = [rig.pod("client"), rig.pod(PODS[1])];
    let netns = pod.namespace().path();
    let netns = netns.to_str().context("a path in UTF-8")?;
    let at_socket = |host| at_socket::<F>(agent, host);
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
