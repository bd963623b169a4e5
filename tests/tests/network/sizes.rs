// SPDX-License-Identifier: Apache-2.0

//! Tables of other sizes than an agent wants: those that are there are kept, and that is said.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapInfo;
use proxy_agent::bpf::object::map_directory;
use proxy_common::map_names::family_ending;
use proxy_common::{V4, V6};
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::cluster::{PORT, WEB};
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::protocol::Protocol;
use proxy_tests::scratch::Scratch;
use proxy_tests::traffic::Client;
use serde_json::Value;

use super::inherited::{cluster, is_served};

both_families!(tables_keep_their_sizes_until_a_cleanup);

/// By what the agent says so.
const KEPT: &str = "tables that are there have other sizes than wanted, and are kept: after `sixfour cleanup`, which forgets all flows, the next start makes them anew";
/// Flags, and the tables whose sizes they say.
const FLAGS: [(&str, &[&str]); 5] = [
    ("--max-flows", &["FLOWS", "WAITING"]),
    ("--max-services", &["SERVICES", "NAMES"]),
    ("--max-endpoints", &["BACKENDS", "SLOTS"]),
    ("--max-frontends", &["FRONTENDS"]),
    ("--max-affinity", &["AFFINITY"]),
];
const SIZE: u32 = 1 << 12;

/// How many entries each table of a family has room for, by its name.
fn sizes<F: TestFamily>(agent: &Agent<'_>) -> Result<BTreeMap<String, u32>> {
    let ending = match F::FAMILY {
        IpFamily::V4 => family_ending::<V4>(),
        IpFamily::V6 => family_ending::<V6>(),
    };
    let mut sizes = BTreeMap::new();
    for entry in std::fs::read_dir(map_directory(agent.pin_root()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("a name")?;
        if name.ends_with(ending) {
            let size = MapInfo::from_pin(&path)?.max_entries();
            let _: Option<u32> = sizes.insert(name.to_owned(), size);
        }
    }
    Ok(sizes)
}

/// What an agent has said of tables that are kept: nothing, or which.
fn kept(agent: &Agent<'_>) -> Result<Option<String>> {
    let log = agent.log()?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut said = lines.filter(|line| line["fields"]["message"] == KEPT);
    let others = said.next().map(|line| line["fields"]["others"].as_str().unwrap_or("").to_owned());
    ensure!(said.next().is_none(), "it is said twice: {log}");
    Ok(others)
}

fn tables_keep_their_sizes_until_a_cleanup<F: TestFamily>() -> Result<()> {
    let cluster = cluster()?;
    let _servers = cluster.servers(&["web-1"])?;
    let pins = Scratch::new("sizes")?;
    let root = pins.mount_bpffs()?.join("sixfour");
    let of = |factor: u32| {
        let spec = cluster.agent("anc-node").pin_root(&root);
        FLAGS
            .iter()
            .fold(spec, |spec, (flag, _)| spec.argument(format!("{flag}={}", factor * SIZE)))
    };
    let mut first = of(2).start()?;
    let before = sizes::<F>(&first)?;
    ensure!(kept(&first)?.is_none(), "{}", first.log()?);
    let client = Client::new(cluster.topology.pod("client"));
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    let (mut stream, mut socket) = (client.stay(target)?, client.datagrams(target)?);
    let _ = socket.ask()?;
    ensure!(first.leave()?.success());
    for factor in [1, 4] {
        first = of(factor).start()?;
        let now = sizes::<F>(&first)?;
        ensure!(now == before, "{factor}: {before:?} {now:?}");
        let kept = kept(&first)?.with_context(|| format!("{factor}: it has said nothing"))?;
        for table in FLAGS.iter().flat_map(|(_, tables)| *tables) {
            let mut tables = before.iter().filter(|(name, _)| name.starts_with(table));
            let (name, size) = tables.next().context(*table)?;
            let told = format!("{name} {size} (wanted: ");
            ensure!(kept.contains(&told), "{factor}: {kept}");
        }
        let _ = stream.exchange()?;
        let _ = socket.ask()?;
        is_served::<F>(&cluster).with_context(|| format!("with {factor} times as much wanted"))?;
        ensure!(first.leave()?.success());
    }
    let _: String = first.cleanup()?;
    let mut agent = of(1).start()?;
    let now = sizes::<F>(&agent)?;
    for (name, former) in FLAGS.iter().flat_map(|(_, tables)| *tables).map(|table| {
        let mut found = before.iter().filter(|(name, _)| name.starts_with(table));
        found.next().expect("it has been found before")
    }) {
        ensure!(now[name] < *former, "{name}: {} after {former}", now[name]);
    }
    ensure!(kept(&agent)?.is_none(), "{}", agent.log()?);
    let answer = client.ask(Protocol::Tcp, target)?;
    ensure!(answer.server == "web-1", "{answer:?}");
    ensure!(agent.stop()?.success());
    Ok(())
}
