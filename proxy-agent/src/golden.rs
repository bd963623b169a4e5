// SPDX-License-Identifier: Apache-2.0
//! Objects recorded from a real kube-apiserver in, a sorted dump of the tables out: through the
//! manifests, the planner, the reconciler and the runner, as the agent uses them.
//!
//! `UPDATE_GOLDEN=1 cargo test -p proxy-agent golden` writes the golden files anew. What
//! they say is checked against the rules that a real kube-proxy wrote for the same objects.

mod kube_proxy;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use crate::{
    dataplane::fake::Fake,
    plan::Options,
    runner::Runner,
    watch::{Source as _, manifests::Manifests},
};
use ipnet::IpNet;
use proxy_common::{Family, V4, V6};
use tokio::sync::mpsc;

/// The tables of both families on a node, as text.
struct Tables {
    v4: String,
    v6: String,
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What the tables of a node hold for the recorded objects.
async fn tables(node: &str) -> Tables {
    let v4 = Arc::new(Mutex::new(Fake::<V4>::default()));
    let v6 = Arc::new(Mutex::new(Fake::<V6>::default()));
    let runner = Runner::new(node, Options::default())
        .with_family(Arc::clone(&v4))
        .unwrap()
        .with_family(Arc::clone(&v6))
        .unwrap();
    let mut status = runner.status();
    let (sender, receiver) = mpsc::channel(1024);
    let source = tokio::spawn(Manifests::new(here("../tests/fixtures/api")).unwrap().run(sender));
    let running = tokio::spawn(runner.run(receiver));
    let settled = status.wait_for(|status| status.synced && status.pending == 0);
    assert_eq!(settled.await.unwrap().services, 40);
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    // Nobody receives any more, so the source ends.
    source.await.unwrap().unwrap();
    Tables { v4: dump(&v4), v6: dump(&v6) }
}

fn dump<F: Family>(tables: &Mutex<Fake<F>>) -> String {
    let tables = tables.lock().unwrap();
    assert_eq!(tables.violations(), [] as [&str; 0]);
    tables.dump()
}

async fn check(node: &str) {
    let Tables { v4, v6 } = tables(node).await;
    let found = format!("# IPv4\n{v4}\n# IPv6\n{v6}");
    let path = here(&format!("tests/golden/{node}.txt"));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    let different = expected.lines().zip(found.lines()).find(|(expected, found)| expected != found);
    assert_eq!(different, None, "in {}", path.display());
    assert_eq!(expected.len(), found.len(), "{} has another end", path.display());
}

#[tokio::test]
async fn anc_node() {
    check("anc-node").await;
}

#[tokio::test]
async fn other_node() {
    check("other-node").await;
}

#[tokio::test]
async fn a_real_kube_proxy_serves_the_same_frontends_alike() {
    let rules = fs::read_to_string(here("tests/golden/kube-proxy.anc-node.nft")).unwrap();
    let Tables { v4, v6 } = tables("anc-node").await;
    for (table, dump) in [("ip", v4), ("ip6", v6)] {
        let ours = served(&dump);
        let theirs = kube_proxy::served(&rules, table);
        assert!(theirs.len() > 50, "{table}: {}", theirs.len());
        assert_eq!(ours, theirs, "{table}");
        for (mark, set) in [(" refuse", "cluster-ips"), (" node", "nodeport-ips")] {
            let marked: Vec<_> = dump
                .lines()
                .filter_map(|line| line.strip_suffix(mark))
                .map(|ip| ip.parse::<std::net::IpAddr>().unwrap())
                .collect();
            assert_eq!(marked, kube_proxy::addresses(&rules, table, set), "{table}: {set}");
        }
    }
}

/// What becomes of new flows to each frontend of a dump.
fn served(dump: &str) -> BTreeMap<String, kube_proxy::Frontend> {
    let mut served = BTreeMap::new();
    let mut lines = dump.lines();
    while let Some(line) = lines.next() {
        let words: Vec<_> = line.split(' ').collect();
        let [frontend, _, kind, policy @ ("cluster" | "local"), more @ ..] = &words[..] else {
            continue;
        };
        let [cluster, local] = [lines.next().unwrap(), lines.next().unwrap()].map(fate);
        let value = |name: &str| more.iter().find_map(|word| word.strip_prefix(name));
        let seconds = |text: &str| text.trim_end_matches('s').parse().unwrap();
        // kube-proxy has no word for the node itself, and none for the length of whole addresses.
        let sources = |list: &str| {
            let ranges = list.split(',').filter(|source| *source != "node");
            ranges.map(|range| source(range.parse().unwrap())).collect()
        };
        let outside = if *policy == "local" { local } else { cluster.clone() };
        let frontend_of_ours = kube_proxy::Frontend {
            pods: if *kind == "cluster-ip" { outside.clone() } else { cluster },
            outside,
            affinity: value("affinity=").map(seconds),
            sources: value("from=").map(sources),
        };
        let _ = served.insert((*frontend).to_owned(), frontend_of_ours);
    }
    served
}

/// A source range as kube-proxy writes it.
fn source(range: IpNet) -> String {
    let is_whole = range.prefix_len() == range.max_prefix_len();
    if is_whole { range.addr().to_string() } else { range.to_string() }
}

/// What the line of a set means.
fn fate(line: &str) -> kube_proxy::Fate {
    let (_, members) = line.split_once(": ").unwrap();
    match members {
        "reject" => kube_proxy::Fate::Reject,
        "drop" => kube_proxy::Fate::Drop,
        members => {
            let members = members.split(' ').map(|member| member.parse().unwrap());
            kube_proxy::Fate::Served(members.collect())
        }
    }
}
