// SPDX-License-Identifier: Apache-2.0

//! What serves without an agent, what the next one makes of it, and what can be removed.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

use super::lifecycle::{binary, filters};
use super::starts::with_a_spoilt_program;
use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, MapData};
use proxy_agent::bpf::object::{map_directory, pinned};
use proxy_agent::bpf::{LinkState, Version};
use proxy_common::device::Device;
use proxy_common::map_names;
use proxy_tests::agent::{Agent, cgroup_root, other_abi};
use proxy_tests::both_families;
use proxy_tests::cluster::{Cluster, PORT, WEB};
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::NodeSpec;
use proxy_tests::traffic::Client;

both_families!(
    programs_serve_without_an_agent,
    a_start_that_fails_changes_nothing,
    another_way_to_attach_takes_over,
    what_is_wanted_no_more_goes,
    a_cleanup_spares_what_is_of_others
);

pub(crate) const WAYS: [&str; 2] = ["--attach=tcx", "--attach=clsact"];

/// The list of UDP sockets: each agent has its own.
const OWN: &str = "udp_sockets";

/// The links that an agent has pinned, by their names.
pub(crate) fn ids(agent: &Agent<'_>) -> Result<BTreeMap<String, LinkState>> {
    let mut ids = BTreeMap::new();
    for version in Version::all(agent.pin_root())? {
        let links = version.links();
        for name in links.names()?.into_iter().filter(|name| name != OWN) {
            let link = links.open(&name)?.context("it is pinned")?;
            let _: Option<LinkState> = ids.insert(name, link.state()?);
        }
    }
    Ok(ids)
}

/// A node with a client, and a Service that one of its pods serves.
pub(crate) fn cluster() -> Result<Cluster> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    Ok(cluster)
}

/// New connections and new flows are served, of a pod and of the node itself.
pub(crate) fn is_served<F: TestFamily>(cluster: &Cluster) -> Result<()> {
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    for who in [cluster.topology.pod("client"), cluster.topology.node("anc-node").host()] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let answer = Client::new(who).ask(protocol, target);
            let answer = answer.with_context(|| format!("{protocol:?} of {}", who.name()))?;
            ensure!(answer.server == "web-1", "{answer:?}");
        }
    }
    Ok(())
}

fn is_not_served<F: TestFamily>(cluster: &Cluster) -> Result<()> {
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    for who in [cluster.topology.pod("client"), cluster.topology.node("anc-node").host()] {
        let client = Client::new(who).patience(Duration::from_millis(300));
        let answer = client.ask(Protocol::Tcp, target);
        ensure!(answer.is_err(), "{}: {answer:?}", who.name());
    }
    Ok(())
}

/// The numbers of the programs in clsact's filters, in their order.
fn filter_programs(cluster: &Cluster) -> Result<Vec<String>> {
    let filters = filters(cluster)?;
    let words: Vec<_> = filters.split_whitespace().collect();
    let ids = words.windows(2).filter(|pair| pair[0] == "id").map(|pair| pair[1].to_owned());
    Ok(ids.collect())
}

fn programs_serve_without_an_agent<F: TestFamily>() -> Result<()> {
    for way in WAYS {
        let cluster = cluster()?;
        let _servers = cluster.servers(&["web-1"])?;
        let mut agent = cluster.agent("anc-node").argument(way).start()?;
        for end in ["SIGTERM", "SIGKILL"] {
            let (before, filters) = (ids(&agent)?, filter_programs(&cluster)?);
            ensure!(filters.is_empty() == way.ends_with("tcx"), "{filters:?}");
            if end == "SIGTERM" {
                ensure!(agent.leave()?.success());
            } else {
                agent.kill();
            }
            is_served::<F>(&cluster).with_context(|| format!("{way}, after {end}"))?;
            ensure!(ids(&agent)? == before, "{way}, {end}: links have changed");
            agent.start()?;
            is_served::<F>(&cluster).with_context(|| format!("{way}, again after {end}"))?;
            let after = ids(&agent)?;
            ensure!(!before.is_empty() && before.keys().eq(after.keys()), "{before:?} {after:?}");
            for (name, before) in &before {
                let after = after[name];
                let is_updated = after.id == before.id && after.place == before.place;
                ensure!(is_updated && after.program != before.program, "{name}: {after:?}");
            }
            let others = filter_programs(&cluster)?;
            ensure!(others.len() == filters.len(), "{filters:?} {others:?}");
            ensure!(others.iter().all(|other| !filters.contains(other)), "{filters:?} {others:?}");
        }
        ensure!(agent.leave()?.success());
        let said = agent.cleanup()?;
        ensure!(said.starts_with("removed: ") && said.lines().count() == 1, "{said}");
        is_not_served::<F>(&cluster)?;
        ensure!(!agent.pin_root().exists(), "the pins are gone");
        ensure!(filter_programs(&cluster)?.is_empty(), "the filters are gone");
        ensure!(!super::stops::has_clsact(&cluster)?, "what they hung on is gone");
        let again = agent.cleanup()?;
        ensure!(again.contains("nothing was there"), "{again}");
    }
    Ok(())
}

/// Runs a binary in the agent's place until it ends.
fn run(
    cluster: &Cluster,
    agent: &Agent<'_>,
    binary: &std::path::Path,
    arguments: &[&str],
) -> Result<Output> {
    let node = cluster.topology.node("anc-node").host().namespace();
    let mut command = node.command(binary);
    let _ = command.args(["run", "--hostname-override=anc-node", "--manifests"]);
    let _ = command.arg(cluster.manifests.directory()).arg("--pin-root").arg(agent.pin_root());
    if !arguments.iter().any(|argument| argument.starts_with("--cgroup-root")) {
        let _ = command.args(cgroup_root(node)?);
    }
    let _ = command.args(arguments);
    node.run(|| Ok(command.output()?))
}

fn a_start_that_fails_changes_nothing<F: TestFamily>() -> Result<()> {
    let cluster = cluster()?;
    let _servers = cluster.servers(&["web-1"])?;
    let scratch = Scratch::new("spoilt")?;
    let spoilt = with_a_spoilt_program(&binary()?, &scratch)?;
    let other_scratch = Scratch::new("spoilt")?;
    let other_abi = with_a_spoilt_program(&other_abi()?, &other_scratch)?;
    let no_cgroup = format!("--cgroup-root={}", scratch.path().display());
    let mut agent = cluster.agent("anc-node").start()?;
    ensure!(agent.leave()?.success());
    let pins = || -> Result<Vec<_>> {
        let mut all = Vec::new();
        for version in fs::read_dir(agent.pin_root())? {
            for kind in fs::read_dir(version?.path())? {
                for pin in fs::read_dir(kind?.path())? {
                    all.push(pin?.path());
                }
            }
        }
        all.sort();
        Ok(all)
    };
    let (links, before) = (ids(&agent)?, pins()?);
    let refused = "the kernel refuses the program";
    for (binary, argument, expected) in [
        (binary()?, "--snat-port-range=7-5", "the range is empty"),
        (binary()?, no_cgroup.as_str(), "cgroup"),
        (spoilt, "--attach=auto", refused),
        (other_abi, "--attach=auto", refused),
    ] {
        let output = run(&cluster, &agent, &binary, &[argument])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains(expected), "{argument}: {said}");
        ensure!(ids(&agent)? == links, "{argument}: links have changed");
        let after = pins()?;
        ensure!(after == before, "{argument}: {before:?} {after:?}");
        is_served::<F>(&cluster).context(expected)?;
    }
    // What has another size of entries is not touched.
    let stranger = agent.pin_root().join(format!("v{}/maps/DEVICES", proxy_common::ABI_VERSION));
    let counters = stranger.with_file_name("COUNTERS");
    fs::remove_file(&stranger)?;
    aya::maps::MapData::from_pin(&counters)?.pin(&stranger)?;
    let output = run(&cluster, &agent, &binary()?, &[])?;
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = [stranger.to_str().context("a path in UTF-8")?, "sixfour cleanup"];
    ensure!(!output.status.success() && expected.iter().all(|it| said.contains(it)), "{said}");
    is_served::<F>(&cluster)?;
    let _: String = agent.cleanup()?;
    ensure!(!agent.pin_root().exists());
    Ok(())
}

fn another_way_to_attach_takes_over<F: TestFamily>() -> Result<()> {
    let cluster = cluster()?;
    let _servers = cluster.servers(&["web-1"])?;
    let pins = Scratch::new("ways")?;
    let root = pins.mount_bpffs()?.join("sixfour");
    let mut former: Option<Agent<'_>> = None;
    for way in [WAYS[0], WAYS[1], WAYS[0]] {
        let agent = cluster.agent("anc-node").argument(way).pin_root(&root).start()?;
        is_served::<F>(&cluster).context(way)?;
        let of_devices = ids(&agent)?.keys().filter(|name| name.contains("gress")).count();
        let filters = filter_programs(&cluster)?.len();
        ensure!(
            (of_devices == 0) != (filters == 0),
            "{way}: {of_devices} links, {filters} filters"
        );
        ensure!((filters == 0) == way.ends_with("tcx"), "{way}: {filters} filters");
        let mut agent = agent;
        ensure!(agent.leave()?.success());
        former = Some(agent);
    }
    let _: String = former.context("three have run")?.cleanup()?;
    ensure!(!root.exists());
    Ok(())
}

/// Of a device, and of the control group; and what the programs were told of that device.
fn what_is_wanted_no_more_goes<F: TestFamily>() -> Result<()> {
    for way in WAYS {
        let cluster = cluster()?;
        let _servers = cluster.servers(&["web-1"])?;
        let node = cluster.topology.node("anc-node").host().namespace();
        let shown = node.output("ip", "-o link show veth-web-3", "")?;
        let index: u32 = shown.split(':').next().context("it has an index")?.parse()?;
        let pins = Scratch::new("wanted")?;
        let root = pins.mount_bpffs()?.join("sixfour");
        let has_row = || -> Result<bool> {
            let map = pinned(&map_directory(&root), map_names::DEVICES)?;
            let devices: HashMap<MapData, u32, Device> = map.try_into()?;
            Ok(devices.get(&index, 0).is_ok())
        };
        let mut former = cluster.agent("anc-node").argument(way).pin_root(&root).start()?;
        let links = ids(&former)?;
        let filters_before = filter_programs(&cluster)?.len();
        ensure!(has_row()? && former.leave()?.success());
        let spec = cluster.agent("anc-node").argument(way).pin_root(&root);
        let spec = spec.argument("--exclude-device=veth-web-3").argument("--socket-lb=off");
        let mut agent = spec.start()?;
        let mut expected: Vec<_> = links.into_keys().collect();
        let gone = format!("{index}-");
        expected.retain(|name| !name.starts_with(&gone) && !name.starts_with("sixfour_"));
        let now = ids(&agent)?;
        ensure!(now.keys().eq(&expected), "{way}: {now:?}, not {expected:?}");
        let of_device = if way.ends_with("clsact") { 2 } else { 0 };
        ensure!(filter_programs(&cluster)?.len() + of_device == filters_before, "{way}");
        ensure!(!has_row()?, "{way}: its row is there");
        let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
        let client = Client::new(cluster.topology.pod("client"));
        ensure!(client.ask(Protocol::Tcp, target)?.server == "web-1");
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

fn a_cleanup_spares_what_is_of_others<F: TestFamily>() -> Result<()> {
    let cluster = cluster()?;
    let _servers = cluster.servers(&["web-1"])?;
    let node = cluster.topology.node("anc-node").host().namespace();
    // One with other pins is somebody else.
    let mut other = cluster.agent("anc-node").argument("--attach=tcx").start()?;
    let theirs = ids(&other)?;
    let _: String = node.output("tc", "qdisc add dev veth-client clsact", "")?;
    // On the side where none of ours would be.
    let version = format!("v{}", proxy_common::ABI_VERSION);
    let program = other.pin_root().join(version).join("programs/sixfour_egress");
    let filter = format!(
        "filter add dev veth-client ingress prio 50 bpf direct-action object-pinned {}",
        program.display()
    );
    let _: String = node.output("tc", &filter, "")?;
    let foreign = "pref 50 bpf";
    ensure!(filters(&cluster)?.contains(foreign), "{}", filters(&cluster)?);
    let mut agent = cluster.agent("anc-node").argument("--attach=tcx").start()?;
    ensure!(agent.leave()?.success());
    let output = agent.command(&["run", "--cleanup"])?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.starts_with("removed: "), "{said}");
    ensure!(!agent.pin_root().exists());
    ensure!(ids(&other)? == theirs, "links of others have changed");
    ensure!(filters(&cluster)?.contains(foreign), "{}", filters(&cluster)?);
    is_served::<F>(&cluster)?;
    ensure!(other.stop()?.success());
    ensure!(filters(&cluster)?.contains(foreign), "{}", filters(&cluster)?);
    is_not_served::<F>(&cluster)
}
