// SPDX-License-Identifier: Apache-2.0
//! Families of metrics whose values are looked up while the page is made.

use std::collections::HashMap;

use prometheus::{
    Error,
    core::Desc,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

/// Whether values only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    Counter,
    Gauge,
}

/// A family of which each value has the same labels.
#[derive(Debug)]
pub(super) struct Row {
    is: Is,
    desc: Desc,
}

impl Row {
    /// One of this name, with these labels.
    ///
    /// # Errors
    ///
    /// If Prometheus knows no such names.
    pub(super) fn new(is: Is, name: &str, help: &str, labels: &[&str]) -> Result<Self, Error> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())?;
        Ok(Self { is, desc })
    }

    /// What it is called.
    pub(super) const fn desc(&self) -> &Desc {
        &self.desc
    }

    /// The family with these values, each with those of its labels.
    pub(super) fn of<'a, const N: usize>(
        &self,
        values: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(match self.is {
            Is::Counter => MetricType::COUNTER,
            Is::Gauge => MetricType::GAUGE,
        });
        let metrics = values.into_iter().map(|(labels, value)| self.metric(&labels, value));
        family.set_metric(metrics.collect());
        family
    }

    fn metric(&self, labels: &[&str], value: f64) -> Metric {
        let pairs = self.desc.variable_labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.clone());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut metric = Metric::from_label(pairs.collect());
        match self.is {
            Is::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Is::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        metric
    }
}

/// A number as Prometheus has them all.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
pub(super) const fn as_float(value: u64) -> f64 {
    value as f64
}
