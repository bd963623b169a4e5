// SPDX-License-Identifier: Apache-2.0
//! What the programs have decided about packets, flows and sockets, by reason.

use prometheus::{
    Error,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use proxy_common::{Family, V4, V6, counter::Reason};

use super::row::{Is, Row, as_float};
use crate::bpf::Counters;

/// The metrics, by what the names of their reasons begin with; the last one has all others.
const METRICS: [(&str, &str, &str, &str); 5] = [
    (
        "drop-",
        "sixfour_drops_total",
        "reason",
        "Packets that were dropped, and sockets that were refused",
    ),
    (
        "reject-",
        "sixfour_rejects_total",
        "reason",
        "Packets that were refused, with an answer to who has sent them",
    ),
    (
        "pass-",
        "sixfour_passes_total",
        "reason",
        "Packets that were left alone although they may be a Service's",
    ),
    (
        "xdp-",
        "sixfour_xdp_packets_total",
        "outcome",
        "Packets of uplinks whose driver has a program",
    ),
    ("", "sixfour_events_total", "event", "What has become of flows, sockets and ICMP errors"),
];

/// Reads the programs' counters.
pub struct Decisions {
    counters: Counters,
    rows: Vec<Row>,
}

impl Decisions {
    /// Those that these counters count.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn new(counters: Counters) -> Result<Self, Error> {
        let row = |(_, name, label, help)| Row::new(Is::Counter, name, help, &["ip_family", label]);
        Ok(Self { counters, rows: METRICS.into_iter().map(row).collect::<Result<_, _>>()? })
    }

    /// The values of a metric of a family. One that cannot be read is missing.
    fn values<F: Family>(&self, place: usize) -> impl Iterator<Item = ([&'static str; 2], f64)> {
        Reason::ALL.iter().filter_map(move |reason| {
            let name = (metric_of(*reason) == place).then(|| reason.name())?;
            let label = name.strip_prefix(METRICS[place].0)?;
            Some(([F::NAME, label], as_float(self.counters.of::<F>(*reason).ok()?)))
        })
    }
}

/// The place of the metric that a reason is of.
fn metric_of(reason: Reason) -> usize {
    let is_of = |(prefix, ..): &(&str, _, _, _)| reason.name().starts_with(prefix);
    METRICS.iter().position(is_of).unwrap_or(METRICS.len() - 1)
}

impl Collector for Decisions {
    fn desc(&self) -> Vec<&Desc> {
        self.rows.iter().map(Row::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let rows = self.rows.iter().enumerate();
        rows.map(|(place, row)| row.of(self.values::<V4>(place).chain(self.values::<V6>(place))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_of_one_metric() {
        let of = |reason| METRICS[metric_of(reason)].1;
        assert_eq!(of(Reason::DropFragment), "sixfour_drops_total");
        assert_eq!(of(Reason::RejectNoFlow), "sixfour_rejects_total");
        assert_eq!(of(Reason::PassForeignNat), "sixfour_passes_total");
        assert_eq!(of(Reason::XdpUpNew), "sixfour_xdp_packets_total");
        assert_eq!(of(Reason::AffinityKept), "sixfour_events_total");
        let counts = [0, 1, 2, 3, 4]
            .map(|place| Reason::ALL.iter().filter(|reason| metric_of(**reason) == place).count());
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }
}
