// SPDX-License-Identifier: Apache-2.0
//! What is switched on a live Service: the labels that say who serves it, and one of two ports of
//! the same number.

use proxy_common::{
    backend::Backend,
    frontend::{FrontendKey, ServiceIndex},
};

use super::*;

/// The Service, with a label that the API's objects may have.
fn labelled(label: Option<&str>) -> Event {
    let mut object = written("a", 1, &of_type("LoadBalancer"));
    if let Some(label) = label {
        object["metadata"]["labels"][label] = json!("");
    }
    event(&object)
}

/// Its slices of both families, with such a label.
fn slices(label: Option<&str>) -> Vec<Event> {
    slices_with(label, &json!([{"port": 8080}, {"name": "b", "port": 8081}]))
}

fn slices_with(label: Option<&str>, ports: &Value) -> Vec<Event> {
    [("IPv4", "10.1.0.9"), ("IPv6", "fd00:1::9")]
        .map(|(family, address)| {
            let mut slice = json!({
                "metadata": {
                    "name": format!("a-{family}"),
                    "namespace": "ns",
                    "labels": {"kubernetes.io/service-name": "a"},
                },
                "addressType": family,
                "endpoints": [{"addresses": [address], "nodeName": "me"}],
                "ports": ports,
            });
            if let Some(label) = label {
                slice["metadata"]["labels"][label] = json!("");
            }
            let slice = serde_json::from_value::<api::EndpointSlice>(slice).unwrap();
            slice.convert().unwrap().event
        })
        .into()
}

#[tokio::test(start_paused = true)]
async fn a_service_may_be_given_to_another_proxy_and_taken_back() {
    let label = "service.kubernetes.io/service-proxy-name";
    let (ours, theirs) = (vec![labelled(None)], vec![labelled(Some(label))]);
    assert_eq!(live(std::slice::from_ref(&theirs)).await, live(&[]).await);
    ends_as("given away", &[ours.clone(), theirs.clone()], &theirs).await;
    ends_as("taken", &[theirs.clone(), ours.clone()], &ours).await;
    ends_as("there and back", &[ours.clone(), theirs, ours.clone()], &ours).await;
}

/// kube-proxy looks for this label at slices alone: a Service that has it and a cluster IP is one
/// without endpoints if its slices have it too.
#[tokio::test(start_paused = true)]
async fn slices_may_become_those_of_a_headless_service_and_back() {
    let label = "service.kubernetes.io/headless";
    let all = |of_service, of_slices| {
        let mut events = slices(of_slices);
        events.push(labelled(of_service));
        events
    };
    let (plain, both) = (all(None, None), all(Some(label), Some(label)));
    let of_service_alone = all(Some(label), None);
    let end = live(std::slice::from_ref(&plain)).await;
    let is_served =
        |tables: &str| ["1.0.9:8081", "1::9]:8081"].iter().any(|at| tables.contains(at));
    assert!(end.iter().all(|(tables, _)| is_served(tables)), "{end:?}");
    assert_eq!(live(std::slice::from_ref(&of_service_alone)).await, end);
    let labelled = live(std::slice::from_ref(&both)).await;
    assert!(!labelled.iter().any(|(tables, _)| is_served(tables)), "{labelled:?}");
    ends_as("labelled", &[plain.clone(), both.clone()], &both).await;
    ends_as("without the label", &[both.clone(), plain.clone()], &plain).await;
    ends_as("there and back", &[plain.clone(), both, of_service_alone, plain.clone()], &plain)
        .await;
}

#[tokio::test(start_paused = true)]
async fn one_of_two_protocols_of_a_port_comes_and_goes_alone() {
    for [stays, goes] in [["TCP", "UDP"], ["UDP", "TCP"]] {
        stays_untouched::<V4>(stays, goes).await;
        stays_untouched::<V6>(stays, goes).await;
    }
}

/// Takes the port of one protocol away and gives it back: of the other's row, frontends and backends
/// nothing is written.
async fn stays_untouched<F>(stays: &str, goes: &str)
where
    F: Family<Addr: Send> + Send,
{
    let spec = |protocols: &[&str]| {
        let mut spec = of_type("LoadBalancer");
        let port = |protocol: &&str| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": 53, "nodePort": 30_053});
        spec["ports"] = protocols.iter().map(port).collect();
        object("a", 1, &spec)
    };
    let number = |name: &str| json!({"name": name, "protocol": name.to_uppercase(), "port": 5353});
    let slices = slices_with(None, &json!(["tcp", "udp"].map(number)));
    let tables = Shared::<F>::default();
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&log);
    let inner = Arc::clone(&tables);
    let fails = move |op: &Op<F>| {
        writer.lock().unwrap().push(op.clone());
        false
    };
    let runner =
        Runner::new("me", Options::default()).with_family(Faulty { inner, fails }).unwrap();
    let bench = Bench::new(runner);
    let _ = bench.sync().await;
    let _ = bench.send(slices).await;
    let _ = bench.send([spec(&[stays, goes])]).await;
    let before = dump(&tables);
    let is_of = |key: &FrontendKey<F>, protocol: &str| key.protocol.to_string() == protocol;
    let has = |protocol| {
        let tables = tables.lock().unwrap();
        tables.frontends.keys().filter(|key| is_of(key, protocol)).count()
    };
    let (count, row) = (has(stays), row_of(&tables, stays));
    assert!(count >= 4 && has(goes) == count, "{before}");
    let of_row = |backend: &Backend<F>| backend.service == row;
    assert!(tables.lock().unwrap().backends.values().any(of_row));
    log.lock().unwrap().clear();
    let start = Instant::now();
    for _ in 0..3 {
        let _ = bench.send([spec(&[stays])]).await;
        assert_eq!((has(stays), has(goes)), (count, 0));
        // What was freed rests.
        sleep(Duration::from_secs(30)).await;
        tables.lock().unwrap().set_time(start.elapsed());
        let _ = bench.send([spec(&[stays, goes])]).await;
        assert_eq!(dump(&tables), before);
    }
    assert!(!log.lock().unwrap().is_empty());
    for op in log.lock().unwrap().iter() {
        let touches = match op {
            Op::PutBackend { backend, .. }
            | Op::SetStanding { backend, .. }
            | Op::RetireBackend { backend, .. } => of_row(backend),
            Op::PutSet { index, .. }
            | Op::PutPolicy { index, .. }
            | Op::PutSourceRange { index, .. }
            | Op::RemoveSourceRange { index, .. }
            | Op::PutName { index, .. }
            | Op::RemoveService { index } => *index == row,
            Op::PutFrontend { key, .. } | Op::RemoveFrontend { key } => is_of(key, stays),
            Op::PutSlots { .. }
            | Op::PutServiceCidr { .. }
            | Op::RemoveServiceCidr { .. }
            | Op::PutShortfall { .. }
            | Op::RemoveShortfall { .. } => false,
        };
        assert!(!touches, "{op:?}");
    }
    assert_eq!(tables.lock().unwrap().violations(), [] as [&str; 0]);
}

/// The row of the Service port of a protocol.
fn row_of<F: Family>(tables: &Shared<F>, protocol: &str) -> ServiceIndex {
    let tables = tables.lock().unwrap();
    let mut frontends = tables.frontends.iter();
    let found = frontends
        .find(|(key, _)| key.port == Port::new(53) && key.protocol.to_string() == protocol);
    found.unwrap().1.service()
}
