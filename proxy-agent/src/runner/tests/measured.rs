// SPDX-License-Identifier: Apache-2.0
//! What is measured of the way from changes to tables.

use std::{
    collections::BTreeMap,
    sync::atomic::AtomicBool,
    time::{Duration, SystemTime},
};

use proxy_common::Family;

use super::*;
use crate::{
    both_families::in_both_families,
    metrics::{Page, Updates},
    model::{ObjectKey, TrafficPolicy},
};

in_both_families!(
    changes_count_until_they_are_in_the_tables,
    endpoints_elsewhere_count_for_local_policies,
    changes_are_timed_from_what_they_were_made_for,
    what_fails_and_what_is_missing_is_told,
);

const SYNC: &str = "sync_proxy_rules";

/// A measured runner of a family, whose tables fail at times.
struct Measured {
    bench: Bench,
    page: Page,
    fails: Arc<AtomicBool>,
}

impl Measured {
    fn new<F: Family<Addr: Send> + Send>() -> Self {
        let page = Page::default();
        let fails = Arc::new(AtomicBool::new(false));
        let is_failing = Arc::clone(&fails);
        let fails_now = move |_: &Op<F>| is_failing.load(Ordering::Relaxed);
        let faulty = Faulty { inner: Shared::<F>::default(), fails: fails_now };
        let runner = Runner::new("me", Options::default()).with_family(faulty).unwrap();
        let bench = Bench::new(runner.measured_by(Updates::new(&page).unwrap()));
        Self { bench, page, fails }
    }

    fn text(&self) -> String {
        // For so long a page is told again.
        std::thread::sleep(Duration::from_millis(100));
        String::from_utf8(self.page.text().unwrap().to_vec()).unwrap()
    }

    /// The values of kube-proxy's metrics, of a family where they are one's.
    fn values<F: Family>(&self) -> BTreeMap<String, String> {
        let text = self.text();
        let family = format!("ip_family=\"{}\"", F::NAME);
        let values = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("kubeproxy_")?.rsplit_once(' ')?;
            let name = name.replace(&format!("{{{family}}}"), "");
            let name = name.replace(&format!("{{{family},traffic_policy="), "{");
            Some((name, value.to_owned()))
        });
        values.collect()
    }
}

/// The addresses of a Service, an endpoint here and another one.
fn addresses<F: Family>() -> [&'static str; 3] {
    if F::INDEX == 0 {
        ["10.0.0.1", "10.1.0.1", "10.1.0.2"]
    } else {
        ["fd00::1", "fd00:1::1", "fd00:1::2"]
    }
}

fn gone(kind: Kind, name: &str) -> Event {
    Event::Delete(ObjectKey { kind, name: ObjectName::new("ns", name) })
}

fn changes_count_until_they_are_in_the_tables<F: Family<Addr: Send> + Send>() {
    run(async {
        let measured = Measured::new::<F>();
        let [service_ip, endpoint, other] = addresses::<F>();
        let counts = |kinds: [&str; 2]| {
            let values = measured.values::<F>();
            kinds.map(|kind| {
                let value = |end| values[&format!("{SYNC}_{kind}_changes_{end}")].clone();
                [value("total"), value("pending")]
            })
        };
        let counts = || counts(["service", "endpoint"]);
        let change = [service("a", &[service_ip]), slice("a", endpoint), slice("a", endpoint)];
        let _ = measured.bench.send(change).await;
        assert_eq!(counts(), [["1", "1"], ["1", "1"]], "the same again is no change");
        let timestamp = format!("{SYNC}_last_timestamp_seconds");
        assert!(!measured.values::<F>().contains_key(&timestamp));
        let _ = measured.bench.sync().await;
        assert_eq!(counts(), [["1", "0"], ["1", "0"]]);
        let values = measured.values::<F>();
        let second = |name: &str| values[name].parse::<f64>().unwrap();
        let queued = second(&format!("{SYNC}_last_queued_timestamp_seconds"));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(queued <= second(&timestamp) && second(&timestamp) <= now, "{values:?}");
        assert!(queued > now - 60.0, "{values:?}");
        let durations = || {
            let values = measured.values::<F>();
            let kinds = [SYNC, "sync_full_proxy_rules", "sync_partial_proxy_rules"];
            kinds.map(|of| {
                let count = values.get(&format!("{of}_duration_seconds_count"));
                count.map_or(0, |count| count.parse::<u32>().unwrap())
            })
        };
        assert_eq!(durations(), [1, 1, 0]);
        let _ = measured.bench.send([slice("a", other)]).await;
        let _ = measured.bench.send([gone(Kind::Service, "a")]).await;
        let _ =
            measured.bench.send([gone(Kind::Service, "a"), gone(Kind::EndpointSlice, "a-1")]).await;
        assert_eq!(counts(), [["2", "0"], ["3", "0"]]);
        let made = durations();
        assert!(made[2] >= 2 && made == [made[2] + 1, 1, made[2]], "{made:?}");
        // Nothing has changed.
        let _ = measured.bench.send([gone(Kind::Service, "b")]).await;
        assert_eq!(durations(), made);
        assert_eq!(counts(), [["2", "0"], ["3", "0"]]);
    });
}

fn endpoints_elsewhere_count_for_local_policies<F: Family<Addr: Send> + Send>() {
    run(async {
        let measured = Measured::new::<F>();
        let [service_ip, endpoint, _] = addresses::<F>();
        let counts = || {
            let values = measured.values::<F>();
            ["internal", "external"].map(|policy| {
                values[&format!("{SYNC}_no_local_endpoints_total{{\"{policy}\"}}")].clone()
            })
        };
        let of = |internal, external| {
            let Event::Apply(Object::Service(mut local)) = service("a", &[service_ip]) else {
                panic!("a Service")
            };
            local.internal_traffic_policy = internal;
            local.external_traffic_policy = external;
            local.ports[0].node_port = Some(Port::new(30_080));
            Event::Apply(Object::Service(local))
        };
        let (local, cluster) = (TrafficPolicy::Local, TrafficPolicy::Cluster);
        let _ = measured.bench.send([of(local, cluster), slice("a", endpoint)]).await;
        let _ = measured.bench.sync().await;
        assert_eq!(counts(), ["1", "0"]);
        let _ = measured.bench.send([of(cluster, local)]).await;
        assert_eq!(counts(), ["0", "1"]);
        let Event::Apply(Object::EndpointSlice(mut here)) = slice("a", endpoint) else {
            panic!("a slice")
        };
        here.endpoints[0].node = Some("me".into());
        let _ = measured.bench.send([Event::Apply(Object::EndpointSlice(here))]).await;
        assert_eq!(counts(), ["0", "0"]);
        let _ = measured.bench.send([slice("a", endpoint), of(local, local)]).await;
        assert_eq!(counts(), ["1", "1"]);
        let _ = measured.bench.send([gone(Kind::EndpointSlice, "a-1")]).await;
        assert_eq!(counts(), ["0", "0"], "it has none at all");
    });
}

fn changes_are_timed_from_what_they_were_made_for<F: Family<Addr: Send> + Send>() {
    run(async {
        let measured = Measured::new::<F>();
        let [service_ip, endpoint, other] = addresses::<F>();
        let slice_at = |address, at: SystemTime| {
            let Event::Apply(Object::EndpointSlice(mut slice)) = slice("a", address) else {
                panic!("a slice")
            };
            slice.trigger = Trigger { at: Some(at), family: F::NAME };
            Event::Apply(Object::EndpointSlice(slice))
        };
        let timed = || {
            let values = measured.values::<F>();
            let value = |end| values.get(&format!("network_programming_duration_seconds_{end}"));
            let count = value("count")?.parse::<u32>().unwrap();
            Some((count, value("sum")?.parse::<f64>().unwrap()))
        };
        let before = SystemTime::now() - Duration::from_mins(1);
        let _ =
            measured.bench.send([service("a", &[service_ip]), slice_at(endpoint, before)]).await;
        let _ = measured.bench.sync().await;
        assert_eq!(timed(), None, "it happened before the start");
        let _ = measured.bench.send([slice("a", other)]).await;
        assert_eq!(timed(), None, "it is not told when it happened");
        let at = SystemTime::now();
        std::thread::sleep(Duration::from_millis(200));
        let _ = measured.bench.send([slice_at(endpoint, at)]).await;
        let (count, sum) = timed().unwrap();
        assert!(count == 1 && (0.2..5.0).contains(&sum), "{sum}");
        // The same endpoints, for whatever reason.
        let _ = measured.bench.send([slice_at(endpoint, SystemTime::now())]).await;
        assert_eq!(timed().unwrap().0, 1);
        // What fails is not there yet.
        measured.fails.store(true, Ordering::Relaxed);
        let _ = measured.bench.send([slice_at(other, SystemTime::now())]).await;
        assert_eq!(timed().unwrap().0, 1);
        measured.fails.store(false, Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        let _ = measured.bench.send([]).await;
        assert_eq!(timed().unwrap().0, 2);
        // Nobody tells when endpoints went.
        measured.fails.store(true, Ordering::Relaxed);
        let _ = measured.bench.send([slice_at(endpoint, SystemTime::now())]).await;
        let _ = measured.bench.send([gone(Kind::EndpointSlice, "a-1")]).await;
        measured.fails.store(false, Ordering::Relaxed);
        sleep(Duration::from_secs(5)).await;
        let _ = measured.bench.send([]).await;
        assert_eq!(timed().unwrap().0, 2);
    });
}

fn what_fails_and_what_is_missing_is_told<F: Family<Addr: Send> + Send>() {
    run(async {
        let measured = Measured::new::<F>();
        let [service_ip, endpoint, _] = addresses::<F>();
        let _ = measured.bench.sync().await;
        // Services that wait and that fail, attempts that have failed, and what is missing.
        let told = || {
            let text = measured.text();
            let family = format!("ip_family=\"{}\"", F::NAME);
            let value = |name: &str, labels: &str| {
                let start = format!("sixfour_{name}{{{labels}{family}}} ");
                let value = text.lines().find_map(|line| line.strip_prefix(&start));
                value.unwrap_or_else(|| panic!("no {start} in {text}")).parse::<u32>().unwrap()
            };
            let counts = ["services_pending", "services_failing", "apply_failures_total"];
            let causes = ["full", "contested", "failing"];
            let missing = causes.map(|cause| value("shortfalls", &format!("cause=\"{cause}\",")));
            (counts.map(|name| value(name, "")), missing)
        };
        assert_eq!(told(), ([0, 0, 0], [0, 0, 0]));
        let _ = measured.bench.send([service("a", &[service_ip]), slice("a", endpoint)]).await;
        assert_eq!(told(), ([0, 0, 0], [0, 0, 0]));
        let _ = measured.bench.send([service("b", &[service_ip])]).await;
        let (_, missing) = told();
        assert_eq!(missing, [0, 1, 0], "another one has its frontend");
        measured.fails.store(true, Ordering::Relaxed);
        let _ = measured.bench.send([gone(Kind::EndpointSlice, "a-1")]).await;
        let ([pending, failing, failed], missing) = told();
        assert!(pending >= 1 && failing >= 1 && failed >= 1 && missing[2] >= 1, "{:?}", told());
        measured.fails.store(false, Ordering::Relaxed);
        sleep(Duration::from_secs(30)).await;
        let _ = measured.bench.send([gone(Kind::Service, "b")]).await;
        sleep(Duration::from_secs(30)).await;
        let ([pending, failing, attempts], missing) = told();
        assert_eq!((pending, failing, missing), (0, 0, [0, 0, 0]), "{:?}", told());
        assert!(attempts >= failed);
    });
}
