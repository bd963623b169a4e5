// SPDX-License-Identifier: Apache-2.0

//! The page of metrics: as kube-proxy's, wherever it says the same, and true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use k8s_openapi::jiff::Timestamp;
use proxy_tests::cluster::{Cluster, PORT, WEB, eventually, web};
use proxy_tests::exposition::Page;
use proxy_tests::family::{DualAddress, IpFamily};
use proxy_tests::manifests::Endpoint;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::NodeSpec;
use proxy_tests::traffic::Client;
use serde_json::json;

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

/// What the agent of the node tells, after all that has happened until now.
fn page(cluster: &Cluster, address: IpAddr, port: u16) -> Result<Page> {
    thread::sleep(FRESH);
    let client = Client::new(cluster.topology.node(NODE).host()).patience(PATIENCE);
    let probed = client.probe(SocketAddr::new(address, port), "/metrics")?;
    let content_type = probed.header("Content-Type");
    ensure!(content_type == Some("text/plain; version=0.0.4; charset=utf-8"), "{probed:?}");
    Page::read(&probed.body)
}

fn metrics(cluster: &Cluster) -> Result<Page> {
    page(cluster, Ipv4Addr::LOCALHOST.into(), 10249)
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

/// What `docs/metrics.md` says of metrics: their types, and their labels.
fn documented() -> Result<BTreeMap<String, Documented>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = fs::read_to_string(path)?;
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, means] = cells[..] else { return None };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        let labels = labels.map(|label| label.trim_matches('`').to_owned()).collect();
        let may_be_absent = means.contains("bsent");
        Some((name.to_owned(), Documented { kind: kind.to_owned(), labels, may_be_absent }))
    });
    Ok(rows.collect())
}

/// What is said of a metric.
struct Documented {
    kind: String,
    labels: BTreeSet<String>,
    may_be_absent: bool,
}

/// All that is on a page is described, and all that is described is there, but for what may be absent.
fn is_documented(page: &Page) -> Result<()> {
    let documented = documented()?;
    for (name, family) in &page.families {
        let described = documented.get(name).with_context(|| format!("{name} is not described"))?;
        ensure!(family.kind == described.kind, "{name} is no {}", described.kind);
        let labels: BTreeSet<_> = described.labels.iter().map(String::as_str).collect();
        ensure!(family.label_names() == labels, "{name} has not {labels:?}");
        ensure!(!family.help.is_empty(), "{name} says nothing");
    }
    for (name, described) in documented {
        let is_there = page.families.contains_key(&name) || described.may_be_absent;
        ensure!(is_there, "{name} is described, and is not there");
    }
    Ok(())
}

/// Datagrams of a pod for a port of a Service, one packet each.
fn send(cluster: &Cluster, to: SocketAddr, count: usize) -> Result<()> {
    cluster.topology.pod("client").namespace().run(|| {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        for _ in 0..count {
            // Each its own socket: what was refused before is none of the next one's.
            let _: usize = UdpSocket::bind((any, 0))?.send_to(b"?", to)?;
        }
        Ok(())
    })
}

/// How much some metrics have grown.
fn grown(before: &Page, after: &Page, name: &str, labels: [(&str, &str); 2]) -> Option<f64> {
    Some(after.value(name, &labels)? - before.value(name, &labels)?)
}

#[test]
fn what_the_programs_do_is_counted() -> Result<()> {
    let _counted = aya::sys::enable_stats(aya::sys::Stats::RunTime)?;
    let cluster = Cluster::of(NodeSpec::bridge(NODE))?;
    cluster.serve_web(&["web-1"])?;
    let far = Endpoint::at([DualAddress::pod(9, 9).v4.into(), DualAddress::pod(9, 9).v6.into()])
        .field("nodeName", json!("far-node"));
    let local = DualAddress::cluster_ip(11);
    let service = web(local, "local").field("internalTrafficPolicy", json!("Local"));
    cluster.manifests.apply(&service.endpoints([far]))?;
    let _servers = cluster.servers(&["web-1"])?;
    let mut agent = cluster.agent(NODE).start()?;
    let before = metrics(&cluster)?;
    let client = Client::new(cluster.topology.pod("client")).patience(PATIENCE);
    for (family, refused) in IpFamily::ALL.into_iter().zip([3, 5]) {
        send(&cluster, SocketAddr::new(WEB.of(family), PORT + 1), refused)?;
        send(&cluster, SocketAddr::new(local.of(family), PORT), refused + 1)?;
        let _ = client.ask(Protocol::Tcp, SocketAddr::new(WEB.of(family), PORT))?;
    }
    let after = metrics(&cluster)?;
    is_documented(&after)?;
    for (family, refused) in IpFamily::ALL.into_iter().zip([3.0, 5.0]) {
        let of = |label, value| [("ip_family", family.name()), (label, value)];
        let grown = |name, labels| grown(&before, &after, name, labels);
        let rejects = grown("sixfour_rejects_total", of("reason", "no-port"));
        ensure!(rejects == Some(refused), "{rejects:?}");
        let drops = grown("sixfour_drops_total", of("reason", "no-local-endpoint"));
        ensure!(drops == Some(refused + 1.0), "{drops:?}");
        for event in ["flow-created", "flow-confirmed"] {
            let flows = grown("sixfour_events_total", of("event", event));
            ensure!(flows == Some(1.0), "{event}: {flows:?}");
        }
        let passes = grown("sixfour_passes_total", of("reason", "foreign-nat"));
        ensure!(passes == Some(0.0), "{passes:?}");
        // Two ports of each Service, with a backend each; slots only where these are reached.
        for (map, entries) in [("services", 4.0), ("backends", 4.0), ("slots", 2.0)] {
            let used = after.value("sixfour_map_entries", &of("map", map));
            ensure!(used == Some(entries), "{map}: {used:?}");
            let room = after.value("sixfour_map_max_entries", &of("map", map));
            ensure!(room > Some(1000.0), "{map}: {room:?}");
        }
        ensure!(after.value("sixfour_map_entries", &of("map", "flows")) == Some(0.0));
        ensure!(after.value("sixfour_map_entries", &of("map", "frontends")) > Some(4.0));
        for cause in ["full", "contested", "failing"] {
            let missing = after.value("sixfour_shortfalls", &of("cause", cause));
            ensure!(missing == Some(0.0), "{cause}: {missing:?}");
        }
        for name in ["services_pending", "services_failing", "apply_failures_total"] {
            let name = format!("sixfour_{name}");
            ensure!(after.value(&name, &[of("", "")[0]]) == Some(0.0), "{name}");
        }
    }
    for (role, served) in [("workload", 4.0), ("uplink", 1.0), ("tunnel", 0.0)] {
        let devices = |state| after.value("sixfour_devices", &[("role", role), ("state", state)]);
        ensure!(devices("served") == Some(served), "{role}: {:?}", devices("served"));
        ensure!(devices("failed") == Some(0.0), "{role}");
    }
    for kind in ["Service", "EndpointSlice", "Node"] {
        let kind = [("kind", kind)];
        ensure!(after.value("sixfour_watch_synced", &kind) == Some(1.0), "{kind:?}");
        let last = after.value("sixfour_watch_last_event_timestamp_seconds", &kind);
        ensure!(last > after.value("process_start_time_seconds", &[]), "{kind:?}: {last:?}");
    }
    ensure!(after.value("sixfour_services", &[]) == Some(2.0));
    ensure!(after.value("sixfour_events_queued", &[]) == Some(0.0));
    ensure!(after.value("sixfour_mended_total", &[]) == Some(0.0));
    let runs = |page: &Page, what: &str| {
        let name = format!("sixfour_program_{what}_total");
        page.value(&name, &[("program", "sixfour_ingress")])
    };
    ensure!(runs(&after, "runs") > runs(&before, "runs"), "{:?}", runs(&after, "runs"));
    ensure!(runs(&after, "run_seconds") > Some(0.0));

    // A Service that wants the address of another one.
    cluster.manifests.apply(&web(WEB, "rival"))?;
    let is_told = || {
        metrics(&cluster).is_ok_and(|page| {
            IpFamily::ALL.iter().all(|family| {
                let labels = [("ip_family", family.name()), ("cause", "contested")];
                page.value("sixfour_shortfalls", &labels) == Some(2.0)
            })
        })
    };
    ensure!(eventually(is_told), "{:?}", metrics(&cluster)?.families["sixfour_shortfalls"]);
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn it_is_read_in_both_families() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge(NODE))?;
    let mut agent = cluster.agent(NODE).argument("--metrics-bind-address=[::]:10300").start()?;
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let page = page(&cluster, address, 10300)?;
        ensure!(page.value("kubeproxy_sync_proxy_rules_service_changes_total", &[]) == Some(0.0));
    }
    ensure!(agent.stop()?.success());
    Ok(())
}
