// SPDX-License-Identifier: Apache-2.0
//! How much there is in the tables, and how much there is room for.

use prometheus::{
    Error, IntCounterVec, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use proxy_common::{
    Family, V4, V6,
    map_names::{BACKENDS, FLOWS, FRONTENDS, SERVICES, SLOTS, family_ending},
};

use super::{
    Page,
    row::{Is, Row},
};
use crate::dataplane::Rows;

/// The room that maps have, which does not change as long as they are there.
#[derive(Debug)]
pub struct Room {
    row: Row,
    /// The family, if it is one's, the name and the number of entries.
    sizes: Vec<(&'static str, String, u32)>,
}

impl Room {
    /// That of maps with these names and sizes.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn new(sizes: Vec<(String, u32)>) -> Result<Self, Error> {
        let help = "How many entries a BPF map has room for";
        let row = Row::new(Is::Gauge, "sixfour_map_max_entries", help, &["ip_family", "map"])?;
        let sizes = sizes.into_iter().filter(|(_, entries)| *entries > 0);
        let named = |(name, entries): (String, u32)| {
            let (family, base) = of_family(&name);
            (family, label(base), entries)
        };
        Ok(Self { row, sizes: sizes.map(named).collect() })
    }
}

impl Collector for Room {
    fn desc(&self) -> Vec<&Desc> {
        vec![self.row.desc()]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let sizes = self.sizes.iter();
        let values =
            sizes.map(|(family, map, entries)| ([*family, map.as_str()], f64::from(*entries)));
        vec![self.row.of(values)]
    }
}

/// The family that a map is of, empty for those of both, and the name without that.
fn of_family(name: &str) -> (&'static str, &str) {
    let v4 = name.strip_suffix(family_ending::<V4>()).map(|base| (V4::NAME, base));
    let v6 = name.strip_suffix(family_ending::<V6>()).map(|base| (V6::NAME, base));
    v4.or(v6).unwrap_or(("", name))
}

fn label(map: &str) -> String {
    map.to_lowercase()
}

/// What is known of the entries of maps, without looking at all of them for this.
#[derive(Clone, Debug)]
pub struct Entries {
    entries: IntGaugeVec,
    collected: IntCounterVec,
}

impl Entries {
    /// Has the numbers on a page.
    ///
    /// # Errors
    ///
    /// If they are there.
    pub fn new(page: &Page) -> Result<Self, Error> {
        let help = "How many entries of a BPF map are in use; flows have two each";
        let entries = Opts::new("sixfour_map_entries", help);
        let entries = IntGaugeVec::new(entries, &["ip_family", "map"])?;
        let help = "Entries of flows that were removed after their time of silence";
        let collected = Opts::new("sixfour_flow_entries_collected_total", help);
        let collected = IntCounterVec::new(collected, &["ip_family"])?;
        page.add(entries.clone())?;
        page.add(collected.clone())?;
        Ok(Self { entries, collected })
    }

    /// A family's tables have so many rows in use, and so many frontends.
    pub fn of_services(&self, family: &str, rows: Rows, frontends: usize) {
        self.set(family, SERVICES, i64::from(rows.services));
        self.set(family, SLOTS, i64::from(rows.slots));
        self.set(family, BACKENDS, i64::from(rows.backends));
        self.set(family, FRONTENDS, i64::try_from(frontends).unwrap_or(i64::MAX));
    }

    /// A walk through a family's flows has left so many entries, and removed so many.
    pub fn of_flows(&self, family: &str, left: usize, removed: usize) {
        self.set(family, FLOWS, i64::try_from(left).unwrap_or(i64::MAX));
        self.collected.with_label_values(&[family]).inc_by(removed as u64);
    }

    fn set(&self, family: &str, map: &str, entries: i64) {
        self.entries.with_label_values(&[family, &label(map)]).set(entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_told_by_family() {
        assert_eq!(of_family("FLOWS_V4"), ("IPv4", "FLOWS"));
        assert_eq!(of_family("HOST_ADDRS_V6"), ("IPv6", "HOST_ADDRS"));
        assert_eq!(of_family("COUNTERS"), ("", "COUNTERS"));
    }
}
