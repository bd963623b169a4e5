// SPDX-License-Identifier: Apache-2.0

//! An agent that was killed, and one that is not alone.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::inherited::ids;
use super::lifecycle::binary;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use proxy_tests::agent::cgroup_root;
use proxy_tests::both_families;
use proxy_tests::cluster::{Cluster, PORT, WEB, eventually, web};
use proxy_tests::family::{DualAddress, TestFamily};
use proxy_tests::process::Process;
use proxy_tests::protocol::Protocol;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::NodeSpec;
use proxy_tests::traffic::Client;

both_families!(a_killed_agent_leaves_nothing_stale);

/// How long a start may take, while programs are verified on a machine that is busy.
const START: Duration = Duration::from_mins(1);

/// A Service that goes while no agent runs.
const OLD: DualAddress = DualAddress::cluster_ip(11);
/// One that comes meanwhile.
const NEW: DualAddress = DualAddress::cluster_ip(12);

fn a_killed_agent_leaves_nothing_stale<F: TestFamily>() -> Result<()> {
    for attach in ["--attach=tcx", "--attach=clsact"] {
        let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
        let pod = |name| cluster.topology.pod(name);
        let _servers = cluster.servers(&["web-1", "web-2", "web-3"])?;
        cluster.manifests.apply(&web(OLD, "old").pods([pod("web-2")]))?;
        cluster.serve_web(&["web-1"])?;
        let mut agent = cluster.agent("anc-node").argument(attach).start()?;
        let client = Client::new(pod("client"));
        let ask = |address: DualAddress, protocol| {
            client.ask(protocol, SocketAddr::new(address.of(F::FAMILY), PORT))
        };
        ensure!(ask(OLD, Protocol::Tcp)?.server == "web-2", "{attach}");
        agent.kill();
        cluster.manifests.remove("old")?;
        cluster.manifests.apply(&web(NEW, "new").pods([pod("web-3")]))?;
        agent.start()?;
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            ensure!(ask(WEB, protocol)?.server == "web-1", "{attach}");
            ensure!(ask(NEW, protocol)?.server == "web-3", "{attach}");
            let old = SocketAddr::new(OLD.of(F::FAMILY), PORT);
            let old = client.patience(Duration::from_millis(300)).ask(protocol, old);
            ensure!(old.is_err(), "{attach}: the Service that is gone leads to {old:?}");
        }
        let services = agent.list("frontends")?.to_string();
        ensure!(services.contains("/new:tcp") && services.contains("/web:tcp"), "{services}");
        ensure!(!services.contains("/old:"), "{services}");
        let pins = agent.pin_root().to_owned();
        ensure!(agent.stop()?.success() && !pins.exists());
    }
    Ok(())
}

both_families!(a_second_agent_waits_and_takes_over);

fn a_second_agent_waits_and_takes_over<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    let _servers = cluster.servers(&["web-1"])?;
    cluster.serve_web(&["web-1"])?;
    let mut agent = cluster.agent("anc-node").start()?;
    let node = cluster.topology.node("anc-node").host().namespace();
    let scratch = Scratch::new("second")?;
    let log_path = scratch.path().join("log");
    let log = File::create(&log_path)?;
    let mut second = node.command(binary()?);
    let _ = second.args(["run", "--hostname-override=anc-node"]);
    let _ = second.arg("--manifests").arg(cluster.manifests.directory());
    let _ = second.arg("--pin-root").arg(agent.pin_root()).args(cgroup_root(node)?);
    let _ = second.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let second = Process::spawn(node, second)?;
    let said = || fs::read_to_string(&log_path).unwrap_or_default();
    let waiting = "waiting until it ends";
    ensure!(eventually(|| said().contains(waiting)), "{}", said());
    // The first has not been disturbed.
    ensure!(agent.list("frontends")?.to_string().contains("/web:tcp"));
    let refused = agent.command(&["cleanup"])?;
    let error = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(1) && error.contains("is running"), "{error}");
    let client = Client::new(cluster.topology.pod("client"));
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    let before = ids(&agent)?;
    ensure!(agent.leave()?.success());
    let deadline = Instant::now() + START;
    while !said().contains("ready") {
        ensure!(Instant::now() < deadline, "it does not take over: {}", said());
        let answer = client.ask(Protocol::Tcp, target).context("amid the hand-over")?;
        ensure!(answer.server == "web-1");
    }
    ensure!(said().matches(waiting).count() == 1, "{}", said());
    let after = ids(&agent)?;
    ensure!(before.keys().eq(after.keys()), "{before:?} {after:?}");
    for (name, before) in &before {
        let after = after[name];
        ensure!(after.id == before.id && after.program != before.program, "{name}");
    }
    ensure!(client.ask(Protocol::Udp, target)?.server == "web-1");
    second.signal(Signal::SIGTERM)?;
    ensure!(second.wait(START)?.success(), "{}", said());
    let _: String = agent.cleanup()?;
    Ok(())
}
