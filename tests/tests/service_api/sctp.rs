// SPDX-License-Identifier: Apache-2.0

//! SCTP associations with Services, where the kernel has sockets for them: in guests. Their nodes
//! forward them without anything of SCTP's.
//!
//! One agent serves all of it, in both families: under an emulated processor, to start one costs
//! more than anything else.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use proxy_tests::cluster::{PORT, TARGET};
use proxy_tests::family::{DualAddress, TestFamily, V4, V6};
use proxy_tests::manifests::Service;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{DEVICE, Host, NodeSpec, TopologySpec};
use proxy_tests::traffic::{Association, Client, SctpServer};

use super::rig::{Frontend, LOCAL, NODE, OTHER_NODE, REMOTE, Rig};

/// A Service without endpoints.
const IDLE: DualAddress = DualAddress::cluster_ip(30);
const IDLE_NODE_PORT: u16 = 30_081;
/// How often to associate: one of two backends is missed in one of 500,000 runs.
const OFTEN: usize = 20;
/// The lengths of messages, in bytes: a chunk of whole words and one that is padded, and several
/// packets.
const LENGTHS: [usize; 3] = [4, 1_001, 20_000];
/// Longer than anything takes under an emulated processor.
const PATIENCE: Duration = Duration::from_secs(10);
/// Linux repeats an INIT after three seconds: what ends before has been ended by the first answer.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Whom a backend sees.
type Seen = Option<IpAddr>;

/// An association with one of these servers, which must see the client as this, if that is known.
fn associate(
    client: &Client<'_>,
    target: SocketAddr,
    servers: &[(&str, Seen)],
) -> Result<Association> {
    let association = client.associate(target)?;
    let (server, source) = (association.server(), association.source().ip());
    let known = servers.iter().find(|(name, _)| *name == server);
    let (_, seen) = known.with_context(|| format!("{server} is no server"))?;
    ensure!(seen.is_none_or(|seen| seen == source), "{association:?}");
    ensure!(association.peer()? == target, "{association:?}");
    Ok(association)
}

/// Associates again and again until each of these servers has returned all messages.
fn is_served(client: &Client<'_>, target: SocketAddr, servers: &[(&str, Seen)]) -> Result<()> {
    let mut answered = BTreeSet::new();
    for _ in 0..OFTEN {
        let mut association = associate(client, target, servers)?;
        if answered.insert(association.server().to_owned()) {
            for length in LENGTHS {
                association.exchange(length)?;
            }
        }
        association.end()?;
        if answered.len() == servers.len() {
            return Ok(());
        }
    }
    bail!("none but {answered:?} has answered")
}

/// By each frontend, from a pod, from outside, and from a backend itself.
fn each_frontend_serves<F: TestFamily>(rig: &Rig) -> Result<()> {
    let of = |host: &Host| Some(host.address(F::FAMILY));
    let (pod, outsider) = (rig.pod("client"), rig.outsider());
    for frontend in Frontend::ALL {
        let target = frontend.target(F::FAMILY);
        for (from, remote) in [(pod, pod), (outsider, rig.node())] {
            let servers = [(LOCAL, of(from)), (REMOTE, of(remote))];
            is_served(&Client::new(from).patience(PATIENCE), target, &servers)
                .with_context(|| format!("{} to {target}", from.name()))?;
        }
    }
    let own = Client::new(rig.pod(LOCAL)).patience(PATIENCE);
    is_served(&own, Frontend::ClusterIp.target(F::FAMILY), &[(LOCAL, None), (REMOTE, None)])
        .context("a backend to itself")
}

/// An association that has been shut down leaves its client's port to the next one, which may have
/// another backend.
fn ports_are_used_again<F: TestFamily>(rig: &Rig) -> Result<()> {
    for (from, port) in [(rig.pod("client"), 40_000), (rig.outsider(), 40_001)] {
        let client = Client::new(from).patience(PATIENCE).source_port(port);
        let target = Frontend::NodePort.target(F::FAMILY);
        is_served(&client, target, &[(LOCAL, None), (REMOTE, None)])
            .with_context(|| format!("{} from port {port}", from.name()))?;
    }
    Ok(())
}

fn is_refused<F: TestFamily>(rig: &Rig) -> Result<()> {
    let (pod, outsider) = (rig.pod("client"), rig.outsider());
    let cases = [
        (pod, SocketAddr::new(IDLE.of(F::FAMILY), PORT)),
        (pod, SocketAddr::new(Frontend::ClusterIp.target(F::FAMILY).ip(), PORT + 1)),
        (outsider, SocketAddr::new(rig.node().address(F::FAMILY), IDLE_NODE_PORT)),
    ];
    for (from, to) in cases {
        let failure = Client::new(from).patience(PATIENCE).associate(to).err();
        let failure = failure.with_context(|| format!("{to} is served"))?;
        ensure!(failure.is_refusal() && failure.elapsed < AT_ONCE, "{to}: {failure}");
    }
    Ok(())
}

#[test]
fn associations_by_each_frontend() -> Result<()> {
    let rig = Rig::new(
        TopologySpec::new()
            .node(NodeSpec::bridge(NODE).pod("client", 11).pod(LOCAL, 12))
            .node(NodeSpec::routed(OTHER_NODE).pod(REMOTE, 22)),
    )?;
    let servers = [LOCAL, REMOTE].map(|pod| SctpServer::start(rig.pod(pod), TARGET));
    let _servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let idle = Service::dual("idle", IDLE)
        .port("sctp", Protocol::Sctp, PORT, TARGET)
        .node_port(IDLE_NODE_PORT);
    rig.cluster.manifests.apply(&idle)?;
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    let mut agent = rig.agent().start()?;
    each_frontend_serves::<V4>(&rig)?;
    each_frontend_serves::<V6>(&rig)?;
    ports_are_used_again::<V4>(&rig)?;
    ports_are_used_again::<V6>(&rig)?;
    is_refused::<V4>(&rig)?;
    is_refused::<V6>(&rig)?;
    // Now they compute the checksums, which were left to devices.
    for from in [rig.pod("client"), rig.pod(LOCAL), rig.pod(REMOTE), rig.outsider()] {
        from.namespace().disable_checksum_offload(DEVICE)?;
    }
    each_frontend_serves::<V4>(&rig).context("with whole checksums")?;
    each_frontend_serves::<V6>(&rig).context("with whole checksums")?;
    ensure!(agent.stop()?.success());
    Ok(())
}
