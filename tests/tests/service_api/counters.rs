// SPDX-License-Identifier: Apache-2.0

//! What is counted of each Service port, and what a listing says of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::cluster::{PORT, WEB, eventually, web};
use proxy_tests::family::{DualAddress, IpFamily, TestFamily};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{NodeSpec, TopologySpec};
use proxy_tests::traffic::Client;
use serde_json::{Value, json};

use super::rig::{Frontend, LOCAL, NODE, NODE_PORT, OTHER_NODE, REMOTE, Rig};

both_families!(each_packet_is_counted_once, listings_are_of_what_was_asked_for);

/// Longer than an answer takes, and shorter than a test should wait for none.
const SHORT: Duration = Duration::from_millis(300);
/// Of a Service without endpoints.
const EMPTY: DualAddress = DualAddress::cluster_ip(20);
const REQUESTS: u64 = 7;
/// The length of an Ethernet and a UDP header, and more than a question or an answer has.
const ETHERNET: u64 = 14;
const UDP: u64 = 8;
const LONG: u64 = 300;

fn rig() -> Result<Rig> {
    Rig::new(
        TopologySpec::new()
            .node(NodeSpec::bridge(NODE).pod("client", 11).pod(LOCAL, 12))
            .node(NodeSpec::bridge(OTHER_NODE).pod(REMOTE, 13)),
    )
}

/// The row of a Service port.
fn row<F: TestFamily>(agent: &Agent<'_>, service: &str) -> Result<Value> {
    let listed = agent.list("services")?;
    let rows = listed.as_array().context("no list")?;
    let is_it = |row: &&Value| {
        let name = row["service"].as_str().unwrap_or_default();
        row["family"] == F::FAMILY.name() && name.ends_with(&format!("/{service}"))
    };
    rows.iter().find(is_it).cloned().with_context(|| format!("no {service} in {listed}"))
}

/// What has been counted of it since.
struct Since {
    service: &'static str,
    before: Value,
}

const COUNTED: [&str; 8] = [
    "flows",
    "sockets",
    "requests",
    "replies",
    "rejected",
    "dropped",
    "request_bytes",
    "reply_bytes",
];

impl Since {
    fn now<F: TestFamily>(agent: &Agent<'_>, service: &'static str) -> Result<Self> {
        let before = row::<F>(agent, service)?["counters"].clone();
        Ok(Self { service, before })
    }

    /// In the order of [`COUNTED`].
    fn counted<F: TestFamily>(&self, agent: &Agent<'_>) -> Result<[u64; 8]> {
        let now = row::<F>(agent, self.service)?["counters"].clone();
        let mut counted = [0; 8];
        for (count, name) in counted.iter_mut().zip(COUNTED) {
            let read = |counters: &Value| counters[name].as_u64().with_context(|| name.to_owned());
            *count = read(&now)? - read(&self.before)?;
        }
        Ok(counted)
    }
}

fn each_packet_is_counted_once<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    let manifests = &rig.cluster.manifests;
    manifests.apply(&web(EMPTY, "empty"))?;
    let of = |backend: &str| rig.service(&[backend]);
    manifests.apply(&of(LOCAL))?;
    let mut agent = rig.start()?;
    let header = if F::FAMILY == IpFamily::V4 { 20 } else { 40 };
    let (client, outsider) = (Client::new(rig.pod("client")), Client::new(rig.outsider()));
    let cluster_ip = Frontend::ClusterIp.target(F::FAMILY);
    let node_port = Frontend::NodePort.target(F::FAMILY);
    let asked = |client: &Client<'_>, target| -> Result<()> {
        (0..REQUESTS).try_for_each(|_| Ok(client.ask(Protocol::Udp, target).map(drop)?))
    };
    // One datagram there, and one back.
    let holds = |agent: &Agent<'_>, since: &Since, what: &str| -> Result<()> {
        let counted = since.counted::<F>(agent)?;
        let [counts @ .., request_bytes, reply_bytes] = counted;
        ensure!(counts == [REQUESTS, 0, REQUESTS, REQUESTS, 0, 0], "{what}: {counts:?}");
        let least = REQUESTS * (ETHERNET + header + UDP + 1);
        for bytes in [request_bytes, reply_bytes] {
            ensure!((least..REQUESTS * LONG).contains(&bytes), "{what}: {bytes} bytes");
        }
        Ok(())
    };
    let since = Since::now::<F>(&agent, "web:udp")?;
    asked(&client, cluster_ip)?;
    holds(&agent, &since, "of a pod")?;
    let since = Since::now::<F>(&agent, "web:udp")?;
    asked(&outsider, node_port)?;
    holds(&agent, &since, "from outside")?;
    // By sockets there is no packet to be counted.
    let since = Since::now::<F>(&agent, "web:udp")?;
    asked(&Client::new(rig.node()), cluster_ip)?;
    ensure!(since.counted::<F>(&agent)? == [0, REQUESTS, 0, 0, 0, 0, 0, 0]);
    // A connection is one flow, and more packets.
    let (tcp, udp) = (Since::now::<F>(&agent, "web:tcp")?, Since::now::<F>(&agent, "web:udp")?);
    let _ = client.ask(Protocol::Tcp, cluster_ip)?;
    let [flows, _, requests, replies, ..] = tcp.counted::<F>(&agent)?;
    ensure!(flows == 1 && requests >= 3 && replies >= 2, "{flows} {requests} {replies}");
    ensure!(udp.counted::<F>(&agent)? == [0; 8], "another port's");
    // Nobody serves.
    let since = Since::now::<F>(&agent, "empty:udp")?;
    let empty = SocketAddr::new(EMPTY.of(F::FAMILY), PORT);
    for _ in 0..REQUESTS {
        ensure!(client.ask(Protocol::Udp, empty).is_err_and(|failure| failure.is_refusal()));
    }
    ensure!(since.counted::<F>(&agent)?[..6] == [0, 0, 0, 0, REQUESTS, 0]);
    let host = Client::new(rig.node()).ask(Protocol::Udp, empty);
    ensure!(host.is_err_and(|failure| failure.is_refusal()));
    ensure!(since.counted::<F>(&agent)?[..6] == [0, 0, 0, 0, REQUESTS + 1, 0], "at a socket");
    ensure!(agent.leave()?.success());
    // Translated twice, and counted once; by an agent that goes on counting.
    let since = Since::now::<F>(&agent, "web:udp")?;
    manifests.apply(&of(REMOTE))?;
    agent.start()?;
    asked(&outsider, node_port)?;
    holds(&agent, &since, "masqueraded")?;
    manifests.apply(&of(REMOTE).field("externalTrafficPolicy", json!("Local")))?;
    let since = Since::now::<F>(&agent, "web:udp")?;
    let is_dropped = || -> Result<bool> {
        let dropped = outsider.patience(SHORT).ask(Protocol::Udp, node_port);
        Ok(dropped.is_err() && since.counted::<F>(&agent)?[5] > 0)
    };
    ensure!(eventually(|| is_dropped().is_ok_and(|is| is)), "nothing is dropped");
    ensure!(agent.stop()?.success());
    Ok(())
}

fn listings_are_of_what_was_asked_for<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    rig.cluster.manifests.apply(&web(EMPTY, "empty"))?;
    rig.cluster.manifests.apply(&rig.service(&[LOCAL]))?;
    let mut agent = rig.agent().argument("--max-counted=2").start()?;
    let client = Client::new(rig.pod("client"));
    let _ = client.ask(Protocol::Udp, Frontend::ClusterIp.target(F::FAMILY))?;
    let list = |what: &str, filters: &[&str]| -> Result<Vec<Value>> {
        let mut arguments = vec!["list", what, "-o", "json"];
        arguments.extend(filters);
        let output = agent.command(&arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let family = format!("--family={}", F::FAMILY.name());
    let named = |rows: &[Value]| -> Vec<String> {
        let names = rows.iter().filter_map(|row| row["service"].as_str());
        let mut names: Vec<_> =
            names.filter_map(|name| Some(name.split_once('/')?.1.to_owned())).collect();
        names.dedup();
        names
    };
    let all = ["empty:tcp", "empty:udp", "web:sctp", "web:tcp", "web:udp"];
    let rows = list("services", &[&family])?;
    ensure!(named(&rows) == all, "{rows:?}");
    for row in &rows {
        ensure!(row["family"] == F::FAMILY.name() && row["state"] == "programmed", "{row}");
        let is_served = row["service"].as_str().is_some_and(|name| name.contains("/web:"));
        let served = (row["backends"].clone(), row["local_backends"].clone());
        // Nobody asks which are local where no policy does.
        ensure!(served == (json!(u32::from(is_served)), json!(0)), "{row}");
    }
    // Of two of them, that came first.
    let counted = rows.iter().filter(|row| !row["counters"].is_null());
    ensure!(counted.count() == 2, "{rows:?}");
    ensure!(list("services", &[])?.len() == 2 * all.len());
    let namespace = rows[0]["service"].as_str().and_then(|name| name.split_once('/'));
    let (namespace, _) = namespace.context("a namespace")?;
    let service = |name: &str| format!("--service={namespace}/{name}");
    let address = |ip: IpAddr| format!("--address={ip}");
    let (web_only, web_udp) = (service("web"), service("web:udp"));
    let (at_web, at_node) =
        (address(WEB.of(F::FAMILY)), address(Frontend::NodePort.target(F::FAMILY).ip()));
    let backend = address(rig.pod(LOCAL).address(F::FAMILY));
    ensure!(named(&list("services", &[&family, &web_only])?) == all[2..]);
    ensure!(named(&list("services", &[&family, &web_udp])?) == all[4..]);
    ensure!(named(&list("services", &[&at_web])?) == all[2..]);
    ensure!(named(&list("services", &[&backend])?) == all[2..], "by a backend");
    ensure!(named(&list("services", &[&at_node])?).is_empty(), "node ports are at no address");
    ensure!(named(&list("frontends", &[&at_web])?) == all[2..]);
    ensure!(named(&list("backends", &[&family, &web_udp])?) == all[4..]);
    ensure!(named(&list("flows", &[&backend, &web_udp])?) == all[4..]);
    ensure!(list("flows", &[&backend, &service("empty")])?.is_empty());
    let by_port = list("frontends", &[&family, &web_udp])?;
    let has_node_port = |row: &Value| {
        row["frontend"].as_str().is_some_and(|at| at.ends_with(&NODE_PORT.to_string()))
    };
    ensure!(by_port.iter().any(has_node_port), "{by_port:?}");
    ensure!(agent.stop()?.success());
    Ok(())
}
