// SPDX-License-Identifier: Apache-2.0
//! Services, and what of them is not in the tables.

use prometheus::{Error, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::Page;
use crate::reconcile::Missing;

/// Tells how it is with Services.
#[derive(Clone, Debug)]
pub struct Services {
    all: IntGauge,
    pending: IntGaugeVec,
    failing: IntGaugeVec,
    failures: IntCounterVec,
    missing: IntGaugeVec,
}

impl Services {
    /// Has it on a page.
    ///
    /// # Errors
    ///
    /// If it is there.
    pub fn new(page: &Page) -> Result<Self, Error> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(format!("sixfour_{name}"), help), labels)?;
            page.add(gauge.clone())?;
            Ok::<_, Error>(gauge)
        };
        let all = IntGauge::new("sixfour_services", "Services that are known")?;
        page.add(all.clone())?;
        let help = "Attempts to write something to the tables that have failed, and are made again";
        let failures = Opts::new("sixfour_apply_failures_total", help);
        let failures = IntCounterVec::new(failures, &["ip_family"])?;
        page.add(failures.clone())?;
        Ok(Self {
            all,
            failures,
            pending: gauge(
                "services_pending",
                "Services for which something is to be done to the tables, now or later",
                &["ip_family"],
            )?,
            failing: gauge(
                "services_failing",
                "Services for which the last attempt to do it has failed",
                &["ip_family"],
            )?,
            missing: gauge(
                "shortfalls",
                "What is wanted and is not in the tables, by cause: a table is full, another Service has the frontend (contested), or it cannot be written (failing)",
                &["cause", "ip_family"],
            )?,
        })
    }

    /// So many are known.
    pub fn are(&self, count: usize) {
        self.all.set(as_gauge(count));
    }

    /// In a family, so many are pending and failing, this much is missing, and so many attempts have failed just now.
    pub fn in_family(&self, family: &str, pending: usize, failing: usize, missing: Missing) {
        self.pending.with_label_values(&[family]).set(as_gauge(pending));
        self.failing.with_label_values(&[family]).set(as_gauge(failing));
        let Missing { full, contested, failing } = missing;
        for (cause, count) in [("full", full), ("contested", contested), ("failing", failing)] {
            self.missing.with_label_values(&[cause, family]).set(as_gauge(count));
        }
        // It is there from the beginning.
        let _ = self.failures.with_label_values(&[family]);
    }

    /// An attempt has failed.
    pub fn failed(&self, family: &str) {
        self.failures.with_label_values(&[family]).inc();
    }
}

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
