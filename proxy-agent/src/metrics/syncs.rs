// SPDX-License-Identifier: Apache-2.0
//! How changes of the cluster get into the tables: kube-proxy's metrics of that (`pkg/proxy/metrics/metrics.go`,
//! Kubernetes 1.36), whose *proxy rules* are the tables here.

use std::{
    iter,
    time::{Duration, SystemTime},
};

use prometheus::{
    Error, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntGauge, IntGaugeVec, Opts,
    exponential_buckets,
};

use super::Page;

/// The label of a family's values.
const FAMILY: &str = "ip_family";

/// Measures the work from changes to tables.
#[derive(Clone, Debug)]
pub struct Syncs {
    all: HistogramVec,
    full: HistogramVec,
    partial: HistogramVec,
    last: GaugeVec,
    queued: GaugeVec,
    services: Changes,
    endpoints: Changes,
    no_local_endpoints: IntGaugeVec,
    programming: HistogramVec,
}

/// Changes of a kind of objects.
#[derive(Clone, Debug)]
struct Changes {
    total: IntCounter,
    pending: IntGauge,
}

impl Syncs {
    /// Has the measures on a page.
    ///
    /// # Errors
    ///
    /// If they are there.
    pub fn new(page: &Page) -> Result<Self, Error> {
        let durations = |name: &str, help: &str| {
            let buckets = exponential_buckets(0.001, 2.0, 15)?;
            histogram(page, name, help, buckets)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = GaugeVec::new(Opts::new(name, help), &[FAMILY])?;
            page.add(gauge.clone())?;
            Ok::<_, Error>(gauge)
        };
        let no_local_endpoints = IntGaugeVec::new(
            Opts::new(
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                "Number of Service ports with a Local traffic policy that have ready endpoints, but none on this node",
            ),
            &[FAMILY, "traffic_policy"],
        )?;
        page.add(no_local_endpoints.clone())?;
        Ok(Self {
            all: durations(
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "How long it took to bring changes into the tables",
            )?,
            full: durations(
                "kubeproxy_sync_full_proxy_rules_duration_seconds",
                "How long it took to bring all Services into the tables, at the start",
            )?,
            partial: durations(
                "kubeproxy_sync_partial_proxy_rules_duration_seconds",
                "How long it took to bring changed Services into the tables",
            )?,
            last: gauge(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "When changes were last in the tables, with nothing left to do",
            )?,
            queued: gauge(
                "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
                "When changes were last queued",
            )?,
            services: Changes::new(page, "service", "Service")?,
            endpoints: Changes::new(page, "endpoint", "EndpointSlice")?,
            no_local_endpoints,
            programming: histogram(
                page,
                "kubeproxy_network_programming_duration_seconds",
                "Time from the change of a Service's endpoints to that of the tables",
                programming_buckets(),
            )?,
        })
    }

    /// A Service has become another one, has appeared or has gone.
    pub fn service_changed(&self) {
        self.services.one_more();
    }

    /// The same of an EndpointSlice.
    pub fn endpoints_changed(&self) {
        self.endpoints.one_more();
    }

    /// Changes wait for a family's tables from now on.
    pub fn queued(&self, family: &str) {
        self.queued.with_label_values(&[family]).set(seconds(SystemTime::now()));
    }

    /// What has changed is about to be brought into the tables of all families.
    pub fn begin(&self) {
        self.services.pending.set(0);
        self.endpoints.pending.set(0);
    }

    /// Changes have been brought into the tables of a family; at the start, those were all that there is.
    pub fn end(&self, family: &str, took: Duration, is_full: bool) {
        let by_extent = if is_full { &self.full } else { &self.partial };
        for histogram in [&self.all, by_extent] {
            histogram.with_label_values(&[family]).observe(took.as_secs_f64());
        }
    }

    /// A family's tables are as they should be.
    pub fn is_done(&self, family: &str) {
        self.last.with_label_values(&[family]).set(seconds(SystemTime::now()));
    }

    /// This many Service ports with a Local policy have ready endpoints, but none on this node.
    pub fn without_local_endpoints(&self, family: &str, internal: usize, external: usize) {
        for (policy, count) in [("internal", internal), ("external", external)] {
            let gauge = self.no_local_endpoints.with_label_values(&[family, policy]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A change of endpoints has been brought into the tables so long after it happened.
    pub fn programmed(&self, family: &str, after: Duration) {
        self.programming.with_label_values(&[family]).observe(after.as_secs_f64());
    }
}

impl Changes {
    fn new(page: &Page, kind: &str, what: &str) -> Result<Self, Error> {
        let name = |ending| format!("kubeproxy_sync_proxy_rules_{kind}_changes_{ending}");
        let total = IntCounter::new(name("total"), format!("Changes of a {what}"))?;
        let help = format!("Changes of a {what} that are not in the tables yet");
        let pending = IntGauge::new(name("pending"), help)?;
        page.add(total.clone())?;
        page.add(pending.clone())?;
        Ok(Self { total, pending })
    }

    fn one_more(&self) {
        self.total.inc();
        self.pending.inc();
    }
}

fn histogram(
    page: &Page,
    name: &str,
    help: &str,
    buckets: Vec<f64>,
) -> Result<HistogramVec, Error> {
    let histogram = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &[FAMILY])?;
    page.add(histogram.clone())?;
    Ok(histogram)
}

/// The bounds of kube-proxy's, in seconds: from a quarter of a second to five minutes.
fn programming_buckets() -> Vec<f64> {
    let linear = |start: f64, width: f64, count| {
        iter::successors(Some(start), move |bound| Some(bound + width)).take(count)
    };
    let bounds = iter::once(0.0).chain(linear(0.25, 0.25, 2)).chain(linear(1.0, 1.0, 59));
    bounds.chain(linear(60.0, 5.0, 12)).chain(linear(120.0, 30.0, 7)).collect()
}

/// Since the epoch.
pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
