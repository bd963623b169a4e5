// SPDX-License-Identifier: Apache-2.0
//! What was answered of the proxy's health.

use prometheus::{Error, IntCounterVec, Opts};

use super::Page;

/// Counts answers by their status.
#[derive(Clone, Debug)]
pub struct HealthAnswers {
    healthz: IntCounterVec,
    livez: IntCounterVec,
}

impl HealthAnswers {
    /// Has the counts on a page.
    ///
    /// # Errors
    ///
    /// If they are there.
    pub fn new(page: &Page) -> Result<Self, Error> {
        let counter = |of: &str| {
            let name = format!("kubeproxy_proxy_{of}_total");
            let help = format!("Answers at /{of}, by their HTTP status");
            let counter = IntCounterVec::new(Opts::new(name, help), &["code"])?;
            page.add(counter.clone())?;
            Ok::<_, Error>(counter)
        };
        Ok(Self { healthz: counter("healthz")?, livez: counter("livez")? })
    }

    /// `/healthz` was answered with this status.
    pub fn healthz(&self, code: u16) {
        self.healthz.with_label_values(&[&code.to_string()]).inc();
    }

    /// `/livez` was.
    pub fn livez(&self, code: u16) {
        self.livez.with_label_values(&[&code.to_string()]).inc();
    }
}
