// SPDX-License-Identifier: Apache-2.0

//! Counters of packets that were sent, and what is in the tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Result, ensure};
use proxy_tests::cluster::{Cluster, PORT, WEB, eventually, web};
use proxy_tests::exposition::Page;
use proxy_tests::family::{DualAddress, IpFamily};
use proxy_tests::manifests::{Endpoint, NAMESPACE};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::NodeSpec;
use proxy_tests::traffic::Client;
use serde_json::json;

use super::{NODE, PATIENCE, metrics};

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

/// Of the Services that were asked: a connection, and datagrams that are dropped.
fn of_services(before: &Page, after: &Page) -> Result<()> {
    for (family, refused) in IpFamily::ALL.into_iter().zip([3.0, 5.0]) {
        let of = |what: &str, service: &str, direction: &[(&str, &str)]| {
            let labels =
                [("ip_family", family.name()), ("namespace", NAMESPACE), ("service", service)];
            let labels: Vec<_> = labels.iter().chain(direction).copied().collect();
            let name = format!("sixfour_service_{what}_total");
            Some(after.value(&name, &labels)? - before.value(&name, &labels)?)
        };
        ensure!(of("flows", "web", &[]) == Some(1.0), "{:?}", of("flows", "web", &[]));
        for direction in ["request", "reply"] {
            let direction = [("direction", direction)];
            let (packets, bytes) =
                (of("packets", "web", &direction), of("bytes", "web", &direction));
            ensure!(packets >= Some(2.0) && bytes > packets.map(|packets| 50.0 * packets));
        }
        ensure!(
            of("drops", "local", &[]) == Some(refused + 1.0),
            "{:?}",
            of("drops", "local", &[])
        );
        for (what, service) in
            [("rejects", "web"), ("drops", "web"), ("flows", "local"), ("sockets", "local")]
        {
            ensure!(of(what, service, &[]) == Some(0.0), "{what} of {service}");
        }
    }
    ensure!(after.value("sixfour_services_without_series", &[]) == Some(0.0));
    Ok(())
}

#[test]
fn series_are_of_so_many_services() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge(NODE))?;
    let services = ["one", "two", "three"];
    for (name, host) in services.into_iter().zip(20..) {
        cluster.manifests.apply(&web(DualAddress::cluster_ip(host), name))?;
    }
    let mut agent = cluster.agent(NODE).argument("--metrics-services=2").start()?;
    let shown = || -> Result<(Vec<bool>, Option<f64>)> {
        let page = metrics(&cluster)?;
        let has = |name: &&str| {
            let of = |family: IpFamily| {
                [("ip_family", family.name()), ("namespace", NAMESPACE), ("service", *name)]
            };
            let flows = |family| page.value("sixfour_service_flows_total", &of(family)).is_some();
            let both = IpFamily::ALL.map(flows);
            ensure!(both[0] == both[1], "in one family only");
            Ok(both[0])
        };
        let shown = services.iter().map(has).collect::<Result<_>>()?;
        Ok((shown, page.value("sixfour_services_without_series", &[])))
    };
    let (first, without) = shown()?;
    ensure!(first.iter().filter(|is| **is).count() == 2 && without == Some(1.0), "{first:?}");
    // One that has none gets those of one that goes.
    let place = first.iter().position(|is| *is).unwrap_or_default();
    cluster.manifests.remove(services[place])?;
    let expected: Vec<_> = (0..services.len()).map(|other| other != place).collect();
    let is_next = || shown().is_ok_and(|shown| shown == (expected.clone(), Some(0.0)));
    ensure!(eventually(is_next), "{:?}", shown());
    ensure!(agent.stop()?.success());
    Ok(())
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
    of_services(&before, &after)?;
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
