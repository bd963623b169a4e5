// SPDX-License-Identifier: Apache-2.0

//! What is told of flows, drops and refusals as they happen.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_common::event::LISTENERS;
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::cluster::{PORT, TARGET, eventually, web};
use proxy_tests::family::{DualAddress, TestFamily};
use proxy_tests::process::Process;
use proxy_tests::protocol::Protocol;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::{NodeSpec, TopologySpec, pod_device};
use proxy_tests::traffic::Client;
use serde_json::{Value, json};

use super::rig::{Frontend, LOCAL, NODE, OTHER_NODE, REMOTE, Rig};

both_families!(what_happens_is_told, several_may_listen);

/// Longer than an answer takes, and shorter than a test should wait for none.
const SHORT: Duration = Duration::from_millis(300);
/// Of a Service without endpoints.
const EMPTY: DualAddress = DualAddress::cluster_ip(20);

/// `sixfour monitor`, as it runs.
struct Monitor {
    process: Process,
    out: PathBuf,
    _scratch: Scratch,
}

impl Monitor {
    fn start(agent: &Agent<'_>, arguments: &[&str]) -> Result<Self> {
        let scratch = Scratch::new("monitor")?;
        let out = scratch.path().join("out");
        let log = File::create(scratch.path().join("log"))?;
        let arguments: Vec<_> =
            ["monitor", "-o", "json"].iter().chain(arguments).copied().collect();
        let process = agent.begin_command(&arguments, File::create(&out)?, log)?;
        Ok(Self { process, out, _scratch: scratch })
    }

    fn has_ended(&self) -> bool {
        self.process.status().is_ok_and(|status| status.is_some())
    }

    /// What it has told by now.
    fn told(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.out)?;
        let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// What it tells of what is done meanwhile, over and over: it may not listen yet at first.
    fn tells_of(&self, mut act: impl FnMut() -> Result<()>) -> Result<Value> {
        let mut acted = Ok(());
        let _: bool = eventually(|| {
            acted = act();
            acted.is_err() || self.told().is_ok_and(|told| !told.is_empty())
        });
        acted?;
        let told = self.told()?;
        told.first().cloned().with_context(|| {
            let log = self.out.with_file_name("log");
            format!("nothing is told: {}", fs::read_to_string(log).unwrap_or_default())
        })
    }
}

fn rig() -> Result<Rig> {
    let rig = Rig::new(
        TopologySpec::new()
            .node(NodeSpec::bridge(NODE).pod("client", 11).pod(LOCAL, 12))
            .node(NodeSpec::bridge(OTHER_NODE).pod(REMOTE, 13)),
    )?;
    rig.cluster.manifests.apply(&web(EMPTY, "empty"))?;
    Ok(rig)
}

fn what_happens_is_told<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    let local_only =
        |backend| rig.service(&[backend]).field("externalTrafficPolicy", json!("Local"));
    rig.cluster.manifests.apply(&local_only(LOCAL))?;
    let mut agent = rig.start()?;
    let (pod, outsider) = (Client::new(rig.pod("client")), Client::new(rig.outsider()));
    let listed = agent.list("services")?;
    let namespace = listed[0]["service"].as_str().and_then(|name| name.split_once('/'));
    let namespace = namespace.context("a namespace")?.0;
    let family = format!("--family={}", F::FAMILY.name());
    let begin = |arguments: &[&str]| {
        let arguments: Vec<_> = arguments.iter().copied().chain([&*family]).collect();
        Monitor::start(&agent, &arguments)
    };
    let holds = |told: &Value, expected: &[(&str, Value)]| {
        let is = |(field, value): &(&str, Value)| told[*field] == *value;
        ensure!(expected.iter().all(is), "{told}, not {expected:?}");
        ensure!(told["family"] == F::FAMILY.name(), "{told}");
        Ok(())
    };
    let ip_of = |told: &Value, field: &str| -> Result<_> {
        let text = told[field].as_str().with_context(|| told.to_string())?;
        Ok(text.parse::<SocketAddr>()?.ip())
    };
    let cluster_ip = Frontend::ClusterIp.target(F::FAMILY);
    let backend = SocketAddr::new(rig.pod(LOCAL).address(F::FAMILY), TARGET);
    let of = |port: &str| json!(format!("{namespace}/{port}"));

    let web_only = format!("--service={namespace}/web");
    let monitor = begin(&[&web_only, "--only=flow"])?;
    let told = monitor.tells_of(|| Ok(pod.ask(Protocol::Tcp, cluster_ip).map(drop)?))?;
    holds(
        &told,
        &[
            ("event", json!("flow")),
            ("protocol", json!("TCP")),
            ("destination", json!(cluster_ip)),
            ("backend", json!(backend)),
            ("service", of("web:tcp")),
            ("reason", json!("flow-created")),
            ("device", json!(pod_device("client"))),
        ],
    )?;
    ensure!(ip_of(&told, "source")? == rig.pod("client").address(F::FAMILY), "{told}");
    // What is of no interest is not told.
    let empty = SocketAddr::new(EMPTY.of(F::FAMILY), PORT);
    let _ = pod.ask(Protocol::Tcp, empty);
    ensure!(monitor.told()?.iter().all(|told| told["event"] == "flow"), "{:?}", monitor.told());
    drop(monitor);

    let monitor = begin(&["--reason=reject-no-endpoints"])?;
    let told = monitor.tells_of(|| {
        ensure!(pod.ask(Protocol::Udp, empty).is_err_and(|failure| failure.is_refusal()));
        Ok(())
    })?;
    holds(
        &told,
        &[
            ("event", json!("reject")),
            ("protocol", json!("UDP")),
            ("destination", json!(empty)),
            ("backend", Value::Null),
            ("service", of("empty:udp")),
            ("reason", json!("reject-no-endpoints")),
        ],
    )?;
    drop(monitor);

    let monitor = begin(&["--only=socket"])?;
    let node = Client::new(rig.node());
    let told = monitor.tells_of(|| Ok(node.ask(Protocol::Tcp, cluster_ip).map(drop)?))?;
    holds(
        &told,
        &[
            ("event", json!("socket")),
            ("source", Value::Null),
            ("destination", json!(cluster_ip)),
            ("backend", json!(backend)),
            ("service", of("web:tcp")),
            ("device", Value::Null),
        ],
    )?;
    drop(monitor);

    rig.cluster.manifests.apply(&local_only(REMOTE))?;
    let from = format!("--address={}", rig.outsider().address(F::FAMILY));
    let monitor = begin(&["--only=drop", &from, "--count=1"])?;
    let node_port = Frontend::NodePort.target(F::FAMILY);
    let told = monitor.tells_of(|| {
        let _ = outsider.patience(SHORT).ask(Protocol::Udp, node_port);
        Ok(())
    })?;
    holds(
        &told,
        &[
            ("event", json!("drop")),
            ("destination", json!(node_port)),
            ("service", of("web:udp")),
            ("reason", json!("drop-no-local-endpoint")),
        ],
    )?;
    ensure!(ip_of(&told, "source")? == rig.outsider().address(F::FAMILY), "{told}");
    ensure!(eventually(|| monitor.has_ended()), "it does not end");
    ensure!(agent.stop()?.success());
    Ok(())
}

/// As many as there is room for; another one is told so, and finds room when one has gone.
fn several_may_listen<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    rig.cluster.manifests.apply(&rig.service(&[LOCAL]))?;
    let mut agent = rig.start()?;
    let pod = Client::new(rig.pod("client"));
    let ask = || Ok(pod.ask(Protocol::Udp, Frontend::ClusterIp.target(F::FAMILY)).map(drop)?);
    let begin = || Monitor::start(&agent, &["--only=flow"]);
    let mut monitors = (0..LISTENERS).map(|_| begin()).collect::<Result<Vec<_>>>()?;
    for monitor in &monitors {
        let told = monitor.tells_of(ask)?;
        ensure!(told["event"] == "flow", "{told}");
    }
    let refused = agent.command(&["monitor"])?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && said.contains("are listening already"), "{said}");
    // Killed, it says nothing any more of its wish.
    drop(monitors.pop());
    let mut next = begin()?;
    ensure!(eventually(|| {
        if next.has_ended()
            && let Ok(again) = begin()
        {
            next = again;
        }
        ask().is_ok() && next.told().is_ok_and(|told| !told.is_empty())
    }));
    // Where there is nobody who could tell.
    let pins = agent.pin_root().to_owned();
    ensure!(agent.stop()?.success() && !pins.exists());
    ensure!(eventually(|| monitors[0].has_ended()), "it goes on");
    let none = agent.command(&["monitor"])?;
    let said = String::from_utf8_lossy(&none.stderr);
    ensure!(!none.status.success() && said.contains("is sixfour running?"), "{said}");
    Ok(())
}
