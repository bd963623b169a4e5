// SPDX-License-Identifier: Apache-2.0
//! The runner on a clock that stands still unless everything waits.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proxy_common::{Family, Port, Protocol, V4, V6};
use tokio::time::sleep;

use super::*;
use crate::{
    dataplane::{
        Op,
        fake::{Fake, Faulty},
    },
    model::{
        Endpoint, EndpointPort, EndpointSlice, Hints, Node, Object, ObjectName, Service,
        ServicePort, Trigger,
    },
    plan,
};

mod lives;
mod many;
mod measured;
mod taken_over;
mod tellings;
mod walks;

type Shared<F> = Arc<Mutex<Fake<F>>>;

fn service(name: &str, ips: &[&str]) -> Event {
    Event::Apply(Object::Service(Service {
        name: ObjectName::new("ns", name),
        cluster_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::TCP,
            port: Port::new(80),
            node_port: None,
        }],
        ..Service::default()
    }))
}

fn slice(service: &str, address: &str) -> Event {
    Event::Apply(Object::EndpointSlice(EndpointSlice {
        name: ObjectName::new("ns", &format!("{service}-1")),
        service: ObjectName::new("ns", service),
        endpoints: vec![Endpoint {
            address: address.parse::<IpAddr>().unwrap(),
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            hints: None,
        }],
        ports: vec![EndpointPort {
            name: "".into(),
            protocol: Protocol::TCP,
            port: Port::new(8080),
        }],
        unusable: BTreeMap::new(),
        trigger: Trigger::default(),
    }))
}

fn node(name: &str, address: &str) -> Event {
    Event::Apply(Object::Node(Node {
        name: name.into(),
        zone: Some("b".into()),
        addresses: vec![address.parse().unwrap()],
        ..Node::default()
    }))
}

/// A runner at work.
struct Bench {
    events: mpsc::Sender<Event>,
    status: watch::Receiver<Status>,
}

impl Bench {
    fn new(runner: Runner) -> Self {
        let (events, receiver) = mpsc::channel(64);
        let status = runner.status();
        drop(tokio::spawn(runner.run(receiver)));
        Self { events, status }
    }

    /// Sends events, and lets the runner act on them. No time passes.
    async fn send(&self, events: impl IntoIterator<Item = Event>) -> Status {
        for event in events {
            self.events.send(event).await.unwrap();
        }
        while self.events.capacity() < self.events.max_capacity() {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        self.status.borrow().clone()
    }

    async fn sync(&self) -> Status {
        self.send(NEEDED.map(Event::Synced)).await
    }
}

/// Runs a test on a clock that stands still unless everything waits.
fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test);
}

fn dump<F: Family>(tables: &Shared<F>) -> String {
    tables.lock().unwrap().dump()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_before_all_is_known() {
    let tables = Shared::<V4>::default();
    let bench =
        Bench::new(Runner::new("me", Options::default()).with_family(Arc::clone(&tables)).unwrap());
    let known = [service("a", &["10.0.0.1"]), slice("a", "10.1.0.1")];
    let status = bench.send(known).await;
    assert_eq!((status.synced, status.services), (false, 1));
    for kind in NEEDED {
        assert_eq!(dump(&tables), "");
        let _ = bench.send([Event::Synced(kind)]).await;
    }
    let expected = "10.0.0.1 refuse\n10.0.0.1:80/TCP ns/a: cluster-ip cluster\n  cluster: 10.1.0.1:8080\n  \
                    local: reject\n10.1.0.1:8080/TCP direct\n";
    assert_eq!(dump(&tables), expected);
    let status = bench.status.borrow();
    assert!(status.synced && status.pending == 0, "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn each_change_is_applied_at_once_and_to_its_families() {
    let (v4, v6) = (Shared::<V4>::default(), Shared::<V6>::default());
    let runner = Runner::new("me", Options::default())
        .with_family(Arc::clone(&v4))
        .unwrap()
        .with_family(Arc::clone(&v6))
        .unwrap();
    let bench = Bench::new(runner);
    let _ = bench.sync().await;
    let _ = bench.send([service("a", &["10.0.0.1", "fd00::1"])]).await;
    assert!(dump(&v4).contains("10.0.0.1:80/TCP"));
    assert!(dump(&v6).contains("[fd00::1]:80/TCP"));
    let _ = bench.send([slice("a", "fd00::2")]).await;
    assert!(dump(&v4).contains("cluster: reject"));
    assert!(dump(&v6).contains("cluster: [fd00::2]:8080"));
    let _ = bench.send([service("a", &["fd00::1"])]).await;
    assert_eq!(dump(&v4), "");
    assert!(dump(&v6).contains("[fd00::1]:80/TCP"));
    let key = crate::model::ObjectKey { kind: Kind::Service, name: ObjectName::new("ns", "a") };
    let status = bench.send([Event::Delete(key)]).await;
    assert_eq!((dump(&v6).as_str(), status.services), ("", 0));
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_with_growing_pauses() {
    let tables = Shared::<V4>::default();
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let faulty = Faulty {
        inner: Arc::clone(&tables),
        fails: move |op: &Op<V4>| {
            matches!(op, Op::PutName { .. }) && counted.fetch_add(1, Ordering::Relaxed) < 3
        },
    };
    let other = Shared::<V6>::default();
    let runner = Runner::new("me", Options::default())
        .with_family(faulty)
        .unwrap()
        .with_family(Arc::clone(&other))
        .unwrap();
    let bench = Bench::new(runner);
    let _ = bench.sync().await;
    let status = bench.send([service("a", &["10.0.0.1", "fd00::1"])]).await;
    let error = "ns/a (IPv4): cannot write a name: chosen to fail";
    assert_eq!((status.failing, status.last_error.as_deref()), (1, Some(error)));
    assert!(dump(&other).contains("[fd00::1]:80/TCP"), "the other family goes on");
    for (pause, tried) in [(99, 1), (2, 2), (190, 2), (20, 3), (380, 3)] {
        sleep(Duration::from_millis(pause)).await;
        assert_eq!(attempts.load(Ordering::Relaxed), tried);
    }
    sleep(Duration::from_millis(20)).await;
    assert!(dump(&tables).contains("10.0.0.1:80/TCP"));
    let status = bench.send([]).await;
    assert_eq!((status.pending, status.failing, status.last_error), (0, 0, None));
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_its_source_and_leaves_the_tables() {
    let tables = Shared::<V4>::default();
    let (events, receiver) = mpsc::channel(64);
    let running = tokio::spawn(
        Runner::new("me", Options::default())
            .with_family(Arc::clone(&tables))
            .unwrap()
            .run(receiver),
    );
    for event in NEEDED.map(Event::Synced) {
        events.send(event).await.unwrap();
    }
    events.send(service("a", &["10.0.0.1"])).await.unwrap();
    drop(events);
    running.await.unwrap();
    assert!(dump(&tables).contains("10.0.0.1:80/TCP"));
}

fn zone_hint(zone: &str) -> Hints {
    Hints { zones: vec![zone.into()], nodes: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_becomes_known_changes_the_plans() {
    let tables = Shared::<V4>::default();
    let bench =
        Bench::new(Runner::new("me", Options::default()).with_family(Arc::clone(&tables)).unwrap());
    let Event::Apply(Object::EndpointSlice(mut hinted)) = slice("a", "10.1.0.1") else { panic!() };
    hinted.endpoints.push(Endpoint {
        address: "10.1.0.2".parse().unwrap(),
        hints: Some(zone_hint("b").into()),
        ..hinted.endpoints[0].clone()
    });
    hinted.endpoints[0].hints = Some(zone_hint("a").into());
    let hinted = Event::Apply(Object::EndpointSlice(hinted));
    let _ = bench.send([service("a", &["10.0.0.1"]), hinted]).await;
    let _ = bench.sync().await;
    assert!(dump(&tables).contains("cluster: 10.1.0.1:8080 10.1.0.2:8080"));
    let _ = bench.send([node("me", "192.0.2.1")]).await;
    assert!(dump(&tables).contains("cluster: 10.1.0.2:8080"));
    assert!(dump(&tables).contains("in no set: 10.1.0.1:8080"));
    assert_eq!(tables.lock().unwrap().violations(), [] as [&str; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_addresses_of_the_own_node_are_told() {
    let runner = Runner::new("me", Options::default());
    let addresses = runner.node_addresses();
    let bench = Bench::new(runner);
    let told = || addresses.borrow().iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
    let _ = bench.send([node("other", "192.0.2.2")]).await;
    let _ = bench.send([node("me", "192.0.2.1")]).await;
    assert_eq!(*addresses.borrow(), None, "there may be more to come");
    let _ = bench.sync().await;
    assert_eq!(told(), ["192.0.2.1"]);
    let key = crate::model::ObjectKey { kind: Kind::Node, name: ObjectName::new("", "me") };
    let _ = bench.send([Event::Delete(key)]).await;
    assert_eq!(told(), ["192.0.2.1"], "it is about to come back");
    let _ = bench.send([node("me", "192.0.2.3")]).await;
    assert_eq!(told(), ["192.0.2.3"]);
}

#[tokio::test(start_paused = true)]
async fn node_ports_are_served_at_the_address_of_the_node() {
    let (v4, v6) = (Shared::<V4>::default(), Shared::<V6>::default());
    let runner = Runner::new("me", Options::default())
        .with_family(Arc::clone(&v4))
        .unwrap()
        .with_family(Arc::clone(&v6))
        .unwrap();
    let bench = Bench::new(runner);
    let _ = bench.sync().await;
    let _ = bench.send([node("me", "192.0.2.1")]).await;
    assert_eq!((dump(&v4).as_str(), dump(&v6).as_str()), ("192.0.2.1 node\n", ""));
    let _ = bench.send([node("me", "2001:db8::1")]).await;
    assert_eq!((dump(&v4).as_str(), dump(&v6).as_str()), ("", "2001:db8::1 node\n"));
}

#[tokio::test(start_paused = true)]
async fn node_ports_follow_the_addresses_of_the_host() {
    let tables = Shared::<V4>::default();
    let ips = |texts: &[&str]| {
        Some(texts.iter().map(|ip| ip.parse().unwrap()).collect::<BTreeSet<IpAddr>>())
    };
    let (told, local) = watch::channel(ips(&["192.0.2.1", "127.0.0.1"]));
    let within = plan::NodePortAddresses::Within(vec!["0.0.0.0/0".parse().unwrap()]);
    let options = Options { node_ports: within, ..Options::default() };
    let runner = Runner::new("me", options).with_family(Arc::clone(&tables)).unwrap();
    let bench = Bench::new(runner.with_local_addresses(local));
    let _ = bench.sync().await;
    assert_eq!(dump(&tables), "192.0.2.1 node\n");
    let _ = told.send_replace(ips(&["192.0.2.2", "192.0.2.3"]));
    let _ = bench.send([]).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(dump(&tables), "192.0.2.2 node\n192.0.2.3 node\n");
    // A cluster IP is none of the node's, and is again when its Service goes.
    let _ = bench.send([service("a", &["192.0.2.2"])]).await;
    assert!(dump(&tables).starts_with("192.0.2.2 refuse\n"));
    let key = crate::model::ObjectKey { kind: Kind::Service, name: ObjectName::new("ns", "a") };
    let _ = bench.send([Event::Delete(key)]).await;
    assert_eq!(dump(&tables), "192.0.2.2 node\n192.0.2.3 node\n");
    // Nobody tells any more: what is there stays.
    drop(told);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(dump(&tables), "192.0.2.2 node\n192.0.2.3 node\n");
    assert_eq!(tables.lock().unwrap().violations(), [] as [&str; 0]);
}
