// SPDX-License-Identifier: Apache-2.0
//! Requests to the Kubernetes API, as Kubernetes' own clients measure them
//! (`k8s.io/component-base/metrics/prometheus/restclient`, Kubernetes 1.36).

use std::time::Duration;

use prometheus::{Error, HistogramOpts, HistogramVec, IntCounterVec, Opts};

use super::{Page, row::as_float};

/// The upper bounds of times, in seconds.
const SECONDS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// The upper bounds of sizes, in bytes.
const BYTES: [f64; 11] = [
    64.0,
    256.0,
    512.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];

/// Measures requests. Before the first one there is nothing of it on the page.
#[derive(Clone, Debug)]
pub struct RestClient {
    requests: IntCounterVec,
    duration: HistogramVec,
    waited: HistogramVec,
    request_size: HistogramVec,
    response_size: HistogramVec,
}

impl RestClient {
    /// Has the measures on a page.
    ///
    /// # Errors
    ///
    /// If they are there.
    pub fn new(page: &Page) -> Result<Self, Error> {
        let help = "Requests to the Kubernetes API, by the HTTP status of the answer; <error> where there was none";
        let requests = Opts::new("rest_client_requests_total", help);
        let requests = IntCounterVec::new(requests, &["code", "host", "method"])?;
        page.add(requests.clone())?;
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(format!("rest_client_{name}"), help);
            let histogram =
                HistogramVec::new(options.buckets(buckets.to_vec()), &["host", "verb"])?;
            page.add(histogram.clone())?;
            Ok::<_, Error>(histogram)
        };
        Ok(Self {
            requests,
            duration: histogram(
                "request_duration_seconds",
                "Time from a request to the Kubernetes API until its answer begins",
                &SECONDS,
            )?,
            waited: histogram(
                "rate_limiter_duration_seconds",
                "How long requests to the Kubernetes API were held back by the agent's own limit",
                &SECONDS,
            )?,
            request_size: histogram(
                "request_size_bytes",
                "Size of what was sent with requests to the Kubernetes API",
                &BYTES,
            )?,
            response_size: histogram(
                "response_size_bytes",
                "Size of what the Kubernetes API has answered",
                &BYTES,
            )?,
        })
    }

    /// A request was answered with this status; or was not, with none.
    pub fn answered(&self, method: &str, host: &str, code: Option<u16>, after: Duration) {
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        self.requests.with_label_values(&[&code, host, method]).inc();
        self.duration.with_label_values(&[host, method]).observe(after.as_secs_f64());
    }

    /// A request was held back for this long.
    pub fn throttled(&self, verb: &str, host: &str, waited: Duration) {
        self.waited.with_label_values(&[host, verb]).observe(waited.as_secs_f64());
    }

    /// So many bytes were sent with a request.
    pub fn sent(&self, verb: &str, host: &str, bytes: u64) {
        self.request_size.with_label_values(&[host, verb]).observe(as_float(bytes));
    }

    /// So many bytes were in an answer.
    pub fn received(&self, verb: &str, host: &str, bytes: u64) {
        self.response_size.with_label_values(&[host, verb]).observe(as_float(bytes));
    }
}
