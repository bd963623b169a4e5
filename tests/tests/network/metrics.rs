// SPDX-License-Identifier: Apache-2.0

//! The page of metrics: as kube-proxy's, wherever it says the same, and true.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use k8s_openapi::jiff::Timestamp;
use proxy_tests::cluster::{Cluster, WEB, eventually, web};
use proxy_tests::exposition::Page;
use proxy_tests::family::{DualAddress, IpFamily};
use proxy_tests::manifests::Endpoint;
use proxy_tests::topology::{Host, NodeSpec};
use proxy_tests::traffic::Client;
use serde_json::json;

use documented::is_documented;

mod complete;
mod counted;
mod documented;
mod rules;

const NODE: &str = "anc-node";
/// Longer than an answer takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// For how long a page is told again.
const FRESH: Duration = Duration::from_millis(100);

/// What kube-proxy 1.36 tells and Sixfour does not, and why `docs/metrics.md` says.
const LEFT_OUT: [&str; 4] = [
    "kubeproxy_conntrack_reconciler_deleted_entries_total",
    "kubeproxy_conntrack_reconciler_sync_duration_seconds",
    "process_network_receive_bytes_total",
    "process_network_transmit_bytes_total",
];

/// What a kube-proxy 1.36 has told of a small cluster.
fn recorded() -> Result<Page> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kube-proxy/metrics.gz");
    let mut text = String::new();
    let _ = GzDecoder::new(File::open(path)?).read_to_string(&mut text)?;
    Page::read(&text)
}

/// What the agent of a node tells, after all that has happened until now.
fn text(node: &Host, address: IpAddr, port: u16) -> Result<String> {
    thread::sleep(FRESH);
    let probed =
        Client::new(node).patience(PATIENCE).probe(SocketAddr::new(address, port), "/metrics")?;
    let content_type = probed.header("Content-Type");
    ensure!(content_type == Some("text/plain; version=0.0.4; charset=utf-8"), "{probed:?}");
    Ok(probed.body)
}

fn metrics(cluster: &Cluster) -> Result<Page> {
    let node = cluster.topology.node(NODE).host();
    Page::read(&text(node, Ipv4Addr::LOCALHOST.into(), 10249)?)
}

/// The families of a recorded page are there, with the same types, labels and buckets.
fn is_like(page: &Page, recorded: &Page) -> Result<()> {
    for (name, expected) in &recorded.families {
        let ours = ["kubeproxy_", "kubernetes_", "process_"];
        if !ours.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let Some(family) = page.families.get(name) else {
            ensure!(LEFT_OUT.contains(&name.as_str()), "{name} is missing");
            continue;
        };
        ensure!(!LEFT_OUT.contains(&name.as_str()), "{name} is there");
        ensure!(family.kind == expected.kind, "{name} is a {}", family.kind);
        // Those without a value have none there.
        if !expected.samples.is_empty() {
            let (labels, expected) = (family.label_names(), expected.label_names());
            ensure!(labels == expected, "{name} has {labels:?}, not {expected:?}");
        }
        let (bounds, expected) = (family.bounds(), expected.bounds());
        ensure!(bounds == expected, "{name} has {bounds:?}, not {expected:?}");
    }
    Ok(())
}

#[test]
fn the_page_is_like_kube_proxys_and_counts_changes() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge(NODE))?;
    cluster.serve_web(&["web-1"])?;
    let mut agent = cluster
        .agent(NODE)
        .argument("--feature-gates=AllAlpha=true,WatchList=false")
        .argument("--healthz-bind-address=127.0.0.1")
        .start()?;
    let client = Client::new(cluster.topology.node(NODE).host()).patience(PATIENCE);
    for path in ["/livez", "/healthz", "/healthz"] {
        let _ = client.probe(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 10256), path)?;
    }
    let changes = |page: &Page, of: &str| {
        let value =
            |end| page.value(&format!("kubeproxy_sync_proxy_rules_{of}_changes_{end}"), &[]);
        (value("total"), value("pending"))
    };
    let first = metrics(&cluster)?;
    // One Service, and a slice in each family.
    ensure!(changes(&first, "service") == (Some(1.0), Some(0.0)), "{first:?}");
    ensure!(changes(&first, "endpoint") == (Some(2.0), Some(0.0)), "{first:?}");
    is_like(&first, &recorded()?)?;
    is_documented(&first)?;
    for (path, count) in [("livez", 1.0), ("healthz", 2.0)] {
        let name = format!("kubeproxy_proxy_{path}_total");
        let counted = first.value(&name, &[("code", "200")]);
        ensure!(counted == Some(count), "{name} is {counted:?}");
    }
    for (name, stage, on) in [("AllAlpha", "ALPHA", 1.0), ("WatchList", "BETA", 0.0)] {
        let labels = [("name", name), ("stage", stage)];
        ensure!(first.value("kubernetes_feature_enabled", &labels) == Some(on), "{name}");
    }

    // Another endpoint, elsewhere, and a policy that keeps clients from it; and when that came about.
    let far = Endpoint::at([DualAddress::pod(9, 9).v4.into(), DualAddress::pod(9, 9).v6.into()])
        .field("nodeName", json!("far-node"));
    let local = web(WEB, "web").field("internalTrafficPolicy", json!("Local")).endpoints([far]);
    let mut objects = local.objects();
    for slice in &mut objects[1..] {
        let at = Timestamp::now().to_string();
        slice["metadata"]["annotations"] =
            json!({ "endpoints.kubernetes.io/last-change-trigger-time": at });
    }
    cluster.manifests.write_list("web", &objects)?;
    let is_seen =
        || metrics(&cluster).is_ok_and(|page| changes(&page, "endpoint") == (Some(4.0), Some(0.0)));
    ensure!(eventually(is_seen), "{:?}", metrics(&cluster)?.families.keys());
    let second = metrics(&cluster)?;
    ensure!(changes(&second, "service") == (Some(2.0), Some(0.0)));
    for family in IpFamily::ALL {
        let of = [("ip_family", family.name())];
        let value = |name: &str| second.value(&format!("kubeproxy_{name}"), &of);
        let count = |name: &str| value(&format!("{name}_duration_seconds_count"));
        let (all, full) = (count("sync_proxy_rules"), count("sync_full_proxy_rules"));
        let partial = count("sync_partial_proxy_rules").context("nothing was changed")?;
        ensure!(full == Some(1.0) && all == Some(partial + 1.0), "{all:?}, {full:?}, {partial}");
        let last = value("sync_proxy_rules_last_timestamp_seconds");
        let queued = value("sync_proxy_rules_last_queued_timestamp_seconds");
        ensure!(queued.is_some() && last >= queued, "{queued:?}, {last:?}");
        for (policy, ports) in [("internal", 2.0), ("external", 0.0)] {
            let labels = [of[0], ("traffic_policy", policy)];
            let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
            ensure!(second.value(name, &labels) == Some(ports), "{policy}");
        }
        ensure!(count("network_programming") == Some(1.0), "{:?}", count("network_programming"));
        let sum = value("network_programming_duration_seconds_sum").context("no sum")?;
        ensure!((0.0..20.0).contains(&sum), "{sum}");
    }
    is_documented(&second)?;
    let bounds = second.families["kubeproxy_network_programming_duration_seconds"].bounds();
    ensure!(bounds[..4] == [0.0, 0.25, 0.5, 1.0] && bounds.last() == Some(&300.0), "{bounds:?}");
    ensure!(bounds.len() == 81, "{}", bounds.len());
    let process = agent.process().context("it was started")?.id();
    let resident = procfs_resident(process)?;
    let told = second.value("process_resident_memory_bytes", &[]).context("no memory")?;
    ensure!((told / resident - 1.0).abs() < 0.2, "{told}, and not {resident}");
    ensure!(agent.stop()?.success());
    Ok(())
}

/// The resident memory of a process in bytes.
fn procfs_resident(process: u32) -> Result<f64> {
    let statm = fs::read_to_string(format!("/proc/{process}/statm"))?;
    let pages: u32 = statm.split(' ').nth(1).context("no second word")?.parse()?;
    Ok(f64::from(pages) * f64::from(u32::try_from(rustix::param::page_size())?))
}

#[test]
fn it_is_read_in_both_families() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge(NODE))?;
    let mut agent = cluster.agent(NODE).argument("--metrics-bind-address=[::]:10300").start()?;
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let node = cluster.topology.node(NODE).host();
        let page = Page::read(&text(node, address, 10300)?)?;
        ensure!(page.value("kubeproxy_sync_proxy_rules_service_changes_total", &[]) == Some(0.0));
    }
    ensure!(agent.stop()?.success());
    Ok(())
}
