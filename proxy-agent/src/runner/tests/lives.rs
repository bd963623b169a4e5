// SPDX-License-Identifier: Apache-2.0
//! Lives of Services as the API tells them. Whatever came before, the tables end as if it had never
//! been: nothing is stale in them.

use serde_json::{Value, json};

use super::*;
use crate::watch::{api, convert::Convert as _};

mod contested;
mod switches;

const TYPES: [&str; 5] = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "Headless"];

/// A dual-stack Service of a type, with all that this has.
fn of_type(type_: &str) -> Value {
    match type_ {
        "ExternalName" => json!({"type": "ExternalName"}),
        "Headless" => json!({"clusterIP": "None", "clusterIPs": ["None"]}),
        _ => json!({
            "type": type_,
            "clusterIPs": ["10.0.0.1", "fd00::1"],
            "externalIPs": ["198.51.100.1", "2001:db8:1::1"],
            "externalTrafficPolicy": "Local",
            "sessionAffinity": "ClientIP",
            "loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8::/32"],
            "ports": [{"port": 80, "nodePort": 30_080}, {"name": "b", "port": 81, "nodePort": 30_081}],
        }),
    }
}

/// A Service, made at this second, as the API has it.
fn written(name: &str, created: u32, spec: &Value) -> Value {
    let is_balanced = spec["type"] == "LoadBalancer";
    let ingress = json!([{"ip": "203.0.113.1"}, {"ip": "2001:db8:2::1"}]);
    let ingress = spec.get("ingress").cloned().unwrap_or(ingress);
    json!({
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": format!("{name}-{created}"),
            "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z"),
        },
        "spec": spec,
        "status": {"loadBalancer": {"ingress": if is_balanced { ingress } else { json!([]) }}},
    })
}

/// The same, as the runner is told of it.
fn object(name: &str, created: u32, spec: &Value) -> Event {
    event(&written(name, created, spec))
}

fn event(object: &Value) -> Event {
    let converted = serde_json::from_value::<api::Service>(object.clone()).unwrap().convert();
    let converted = converted.unwrap();
    assert_eq!(converted.rejected, []);
    converted.event
}

fn gone(name: &str) -> Event {
    let name = ObjectName::new("ns", name);
    Event::Delete(crate::model::ObjectKey { kind: Kind::Service, name })
}

/// What a life leaves: the tables as text, and how much there is in them.
type Left = Vec<(String, [usize; 4])>;

fn left<F: Family>(tables: &Shared<F>) -> (String, [usize; 4]) {
    let tables = tables.lock().unwrap();
    assert_eq!(tables.violations(), [] as [&str; 0]);
    let counts = [
        tables.frontends.len(),
        tables.services.len(),
        tables.names.len(),
        tables.source_ranges.len(),
    ];
    (tables.dump(), counts)
}

/// Lives through these batches, each acted on by itself.
async fn live(batches: &[Vec<Event>]) -> Left {
    let (v4, v6) = (Shared::<V4>::default(), Shared::<V6>::default());
    let runner = Runner::new("me", Options::default())
        .with_family(Arc::clone(&v4))
        .unwrap()
        .with_family(Arc::clone(&v6))
        .unwrap();
    let bench = Bench::new(runner);
    let _ = bench.sync().await;
    let endpoints = ["10.1.0.1", "fd00:1::1"].map(|address| {
        let Event::Apply(Object::EndpointSlice(mut slice)) = slice("a", address) else { panic!() };
        slice.name.name = format!("a-{address}").into();
        Event::Apply(Object::EndpointSlice(slice))
    });
    let _ = bench.send(endpoints).await;
    for batch in batches {
        let _ = bench.send(batch.clone()).await;
    }
    // What was freed rests, and then goes.
    sleep(Duration::from_secs(30)).await;
    vec![left(&v4), left(&v6)]
}

/// Asserts that a life leaves what its end alone would.
async fn ends_as(name: &str, batches: &[Vec<Event>], end: &[Event]) {
    assert_eq!(live(batches).await, live(&[end.to_vec()]).await, "{name}");
}

#[tokio::test(start_paused = true)]
async fn every_type_may_become_every_other() {
    for before in TYPES {
        for after in TYPES {
            let [old, new] = [before, after].map(|type_| object("a", 1, &of_type(type_)));
            let name = format!("{before} to {after}");
            ends_as(&name, &[vec![old.clone()], vec![new.clone()]], std::slice::from_ref(&new))
                .await;
            ends_as(&name, &[vec![old, new, gone("a")]], &[]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_of_the_same_name_may_have_other_addresses() {
    let first = object("a", 1, &of_type("LoadBalancer"));
    let mut other = of_type("LoadBalancer");
    other["clusterIPs"] = json!(["10.0.0.9", "fd00::9"]);
    other["externalIPs"] = json!(["198.51.100.9"]);
    other["ingress"] = json!([{"ip": "2001:db8:2::9"}]);
    other["ports"] = json!([{"port": 80, "nodePort": 30_089}]);
    let second = object("a", 9, &other);
    let end = [second.clone()];
    ends_as("at once", &[vec![first.clone(), gone("a"), second.clone()]], &end).await;
    ends_as("later", &[vec![first.clone()], vec![gone("a")], vec![second.clone()]], &end).await;
    ends_as("unseen", &[vec![first], vec![second]], &end).await;
}

#[tokio::test(start_paused = true)]
async fn what_restricts_and_what_remembers_clients_goes_without_a_trace() {
    let plain = json!({
        "type": "LoadBalancer",
        "clusterIPs": ["10.0.0.1", "fd00::1"],
        "ports": [{"port": 80}],
    });
    let end = [object("a", 1, &plain)];
    let full = object("a", 1, &of_type("LoadBalancer"));
    ends_as("all of it", &[vec![full.clone()], end.to_vec()], &end).await;
    ends_as("and back", &[end.to_vec(), vec![full.clone()]], &[full]).await;
}

#[tokio::test(start_paused = true)]
async fn health_checks_are_told_as_endpoints_change() {
    let runner = Runner::new("me", Options::default())
        .with_family(Shared::<V4>::default())
        .unwrap()
        .with_family(Shared::<V6>::default())
        .unwrap();
    let mut checks = runner.health_checks();
    let bench = Bench::new(runner);
    let _ = bench.sync().await;
    let mut spec = of_type("LoadBalancer");
    let _ = bench.send([object("a", 1, &spec)]).await;
    assert!(checks.borrow_and_update().is_empty(), "it has no port for them");
    spec["healthCheckNodePort"] = json!(32_000);
    let _ = bench.send([object("a", 1, &spec)]).await;
    let told = |checks: &mut watch::Receiver<HealthChecks>| {
        assert!(checks.has_changed().unwrap());
        checks.borrow_and_update().get(&ObjectName::new("ns", "a")).cloned()
    };
    let counted = |v4, v6| {
        let counts = crate::health_check::LocalEndpoints::default();
        counts.with::<V4>(v4).with::<V6>(v6)
    };
    let check = told(&mut checks).unwrap();
    assert_eq!((check.port, check.uid.as_deref()), (32_000, Some("a-1")));
    assert_eq!(check.local_endpoints, counted(0, 0));
    let Event::Apply(Object::EndpointSlice(mut here)) = slice("a", "fd00:1::1") else { panic!() };
    here.endpoints[0].node = Some("me".into());
    let _ = bench.send([Event::Apply(Object::EndpointSlice(here.clone()))]).await;
    assert_eq!(told(&mut checks).unwrap().local_endpoints, counted(0, 1));
    // What does not change the answer is not told.
    here.endpoints[0].hints = Some(zone_hint("b").into());
    let _ = bench.send([Event::Apply(Object::EndpointSlice(here))]).await;
    assert!(!checks.has_changed().unwrap());
    spec["externalTrafficPolicy"] = json!("Cluster");
    let _ = bench.send([object("a", 1, &spec)]).await;
    assert_eq!(told(&mut checks), None);
}
