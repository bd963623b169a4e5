// SPDX-License-Identifier: Apache-2.0

//! What others take away while the agent runs comes back.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::inherited::{cluster, ids, is_served};
use anyhow::{Context as _, Result, ensure};
use proxy_agent::bpf::Version;
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;

both_families!(links_come_back, filters_come_back);

/// How long it may take: the agent looks every ten seconds.
const MENDED: Duration = Duration::from_secs(40);

/// How often the agent has said that something is there again.
fn mends(agent: &Agent<'_>) -> Result<usize> {
    Ok(agent.log()?.matches("had gone, and is there again").count())
}

/// Takes things away, and waits until as many are said to be there again.
fn is_mended(agent: &Agent<'_>, count: usize, take: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = mends(agent)?;
    take()?;
    let deadline = Instant::now() + MENDED;
    while mends(agent)? < before + count {
        ensure!(Instant::now() < deadline, "{}", agent.log()?);
        thread::sleep(Duration::from_millis(50));
    }
    let log = agent.log()?;
    ensure!(log.contains(&format!("\"mended\":{}", before + count)), "{log}");
    Ok(())
}

fn links_come_back<F: TestFamily>() -> Result<()> {
    let cluster = cluster()?;
    let _servers = cluster.servers(&["web-1"])?;
    let mut agent = cluster.agent("anc-node").argument("--attach=tcx").start()?;
    let version = Version::all(agent.pin_root())?.pop().context("there is one")?;
    let before = ids(&agent)?;
    // One at each device, and two on the control group.
    let detached: Vec<_> = before
        .keys()
        .filter(|name| name.ends_with("-ingress") || name.starts_with("sixfour_conn"))
        .collect();
    ensure!(detached.len() > 3, "{before:?}");
    is_mended(&agent, detached.len(), || {
        for name in &detached {
            version.links().open(name)?.context("it is pinned")?.detach();
        }
        Ok(())
    })?;
    is_served::<F>(&cluster)?;
    let after = ids(&agent)?;
    for (name, state) in &after {
        ensure!(state.place == before[name].place, "{name}: {state:?}");
        let is_new = detached.contains(&name);
        ensure!((state.id != before[name].id) == is_new, "{name}: {state:?}");
    }
    // A link of a device, one of the control group, a program and a map.
    let root = agent.pin_root().join(format!("v{}", proxy_common::ABI_VERSION));
    let egress = after.keys().find(|name| name.ends_with("-egress")).context("there is one")?;
    let pins = [
        root.join("links").join(egress),
        root.join("links/sixfour_conn4"),
        root.join("programs/sixfour_ingress"),
        root.join("maps/DEVICES"),
    ];
    is_mended(&agent, pins.len(), || Ok(pins.iter().try_for_each(fs::remove_file)?))?;
    ensure!(ids(&agent)? == after, "links that had lost their pins only");
    ensure!(pins.iter().all(|pin| pin.exists()));
    is_served::<F>(&cluster)?;
    ensure!(agent.stop()?.success());
    ensure!(!agent.pin_root().exists());
    Ok(())
}

fn filters_come_back<F: TestFamily>() -> Result<()> {
    let cluster = cluster()?;
    let _servers = cluster.servers(&["web-1"])?;
    let node = cluster.topology.node("anc-node").host().namespace();
    let mut agent = cluster.agent("anc-node").argument("--attach=clsact").start()?;
    is_mended(&agent, 2, || {
        let _: String = node.output("tc", "qdisc del dev veth-client clsact", "")?;
        let _: String = node.output("tc", "filter del dev veth-web-1 egress", "")?;
        Ok(())
    })?;
    is_served::<F>(&cluster)?;
    ensure!(agent.stop()?.success());
    ensure!(!super::stops::has_clsact(&cluster)?);
    Ok(())
}
