// SPDX-License-Identifier: Apache-2.0
//! What has been counted of each Service.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Mutex, PoisonError},
};

use prometheus::{
    Error,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use proxy_common::{Family, frontend::ServiceIndex, traffic};
use tracing::warn;

use super::row::{Is, Row, as_float};
use crate::{
    bpf::{self, CountedServices, Namespaced},
    chain::chain,
};

/// Reads the counters of so many Services.
pub struct Traffic {
    families: Vec<(&'static str, CountedServices)>,
    most: usize,
    /// Those that have series: they keep them as long as they are there.
    shown: Mutex<BTreeSet<Namespaced>>,
    packets: Row,
    bytes: Row,
    flows: Row,
    sockets: Row,
    rejects: Row,
    drops: Row,
    without: Row,
}

/// A Service in a family, with what has been counted of it.
type Counted = (&'static str, Namespaced, traffic::Traffic);

impl Traffic {
    /// That of so many Services at the most, in these families.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn new(most: usize, families: Vec<(&'static str, CountedServices)>) -> Result<Self, Error> {
        const OF_SERVICE: [&str; 3] = ["ip_family", "namespace", "service"];
        const OF_DIRECTION: [&str; 4] = ["direction", "ip_family", "namespace", "service"];
        let row = |name: &str, help: &str, labels: &[&str]| {
            Row::new(Is::Counter, &format!("sixfour_service_{name}_total"), help, labels)
        };
        Ok(Self {
            families,
            most,
            shown: Mutex::default(),
            packets: row("packets", "Packets of a Service that were translated", &OF_DIRECTION)?,
            bytes: row("bytes", "Bytes of these packets, with all headers", &OF_DIRECTION)?,
            flows: row("flows", "Flows to a Service that were created", &OF_SERVICE)?,
            sockets: row(
                "sockets",
                "Sockets, and datagrams of unconnected ones, that were given a backend of a Service",
                &OF_SERVICE,
            )?,
            rejects: row(
                "rejects",
                "Packets and sockets for a Service that were refused",
                &OF_SERVICE,
            )?,
            drops: row(
                "drops",
                "Packets and sockets for a Service that were dropped",
                &OF_SERVICE,
            )?,
            without: Row::new(
                Is::Gauge,
                "sixfour_services_without_series",
                "Services of which there are no series, since there are so many, or are not counted",
                &[],
            )?,
        })
    }

    /// Those of a family.
    ///
    /// # Errors
    ///
    /// If its tables cannot be opened.
    pub fn of_family<F: Family>(
        pins: &Path,
    ) -> Result<(&'static str, CountedServices), bpf::Error> {
        Ok((F::NAME, CountedServices::open::<F>(pins)?))
    }

    /// What has been counted of the Services that have series, and how many have none.
    fn counted(&self) -> Result<(Vec<Counted>, usize), bpf::Error> {
        let all: Vec<_> =
            self.families.iter().map(|(_, services)| services.all()).collect::<Result<_, _>>()?;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let known = choose(&mut shown, &all, self.most);
        let mut counted = Vec::new();
        let mut uncounted = BTreeSet::new();
        for ((family, services), of_family) in self.families.iter().zip(&all) {
            for name in &*shown {
                let Some(rows) = of_family.get(name) else { continue };
                match services.traffic(rows)? {
                    Some(traffic) => counted.push((*family, name.clone(), traffic)),
                    None => _ = uncounted.insert(name.clone()),
                }
            }
        }
        Ok((counted, known - shown.len() + uncounted.len()))
    }
}

/// Has those that are there no more lose their place, and those with the lowest rows get what is free; says how many
/// Services there are.
fn choose(
    shown: &mut BTreeSet<Namespaced>,
    all: &[BTreeMap<Namespaced, Vec<ServiceIndex>>],
    most: usize,
) -> usize {
    let mut first: BTreeMap<&Namespaced, ServiceIndex> = BTreeMap::new();
    for (name, rows) in all.iter().flatten() {
        if let Some(row) = rows.first() {
            let lowest = first.entry(name).or_insert(*row);
            *lowest = (*lowest).min(*row);
        }
    }
    shown.retain(|name| first.contains_key(name));
    let mut others: Vec<_> = first.iter().filter(|(name, _)| !shown.contains(**name)).collect();
    others.sort_unstable_by_key(|(_, row)| **row);
    let free = most.saturating_sub(shown.len());
    let chosen: Vec<_> = others.into_iter().take(free).map(|(name, _)| (*name).clone()).collect();
    shown.extend(chosen);
    first.len()
}

impl Collector for Traffic {
    fn desc(&self) -> Vec<&Desc> {
        let Self { packets, bytes, flows, sockets, rejects, drops, without, .. } = self;
        [packets, bytes, flows, sockets, rejects, drops, without].map(Row::desc).into()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (counted, without) = match self.counted() {
            Ok(counted) => counted,
            Err(error) => {
                warn!(error = chain(&error), "cannot read what has been counted of Services");
                return Vec::new();
            }
        };
        let volumes = |row: &Row, of: fn(&traffic::Volume) -> u64| {
            let directions =
                [("request", traffic::Traffic::REQUESTS), ("reply", traffic::Traffic::REPLIES)];
            let values = counted.iter().flat_map(|(family, (namespace, name), counted)| {
                directions.map(|(direction, place)| {
                    let labels = [direction, *family, namespace.as_str(), name.as_str()];
                    (labels, as_float(of(&counted.volumes[place])))
                })
            });
            row.of(values)
        };
        let counts = |row: &Row, of: fn(&traffic::Traffic) -> u64| {
            row.of(counted.iter().map(|(family, (namespace, name), counted)| {
                ([*family, namespace.as_str(), name.as_str()], as_float(of(counted)))
            }))
        };
        vec![
            volumes(&self.packets, |volume| volume.packets),
            volumes(&self.bytes, |volume| volume.bytes),
            counts(&self.flows, |counted| counted.flows),
            counts(&self.sockets, |counted| counted.sockets),
            counts(&self.rejects, |counted| counted.rejected),
            counts(&self.drops, |counted| counted.dropped),
            self.without.of([([], as_float(without as u64))]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Namespaced {
        ("ns".to_owned(), name.to_owned())
    }

    #[test]
    fn who_has_series_keeps_them() {
        let known = |services: &[(&str, &[u32])]| {
            let rows = |rows: &[u32]| rows.iter().copied().map(ServiceIndex).collect::<Vec<_>>();
            services.iter().map(|(name, of)| (named(name), rows(of))).collect::<BTreeMap<_, _>>()
        };
        let mut shown = BTreeSet::new();
        let is = |shown: &BTreeSet<Namespaced>, names: &[&str]| {
            assert_eq!(*shown, names.iter().map(|name| named(name)).collect());
        };
        // The lowest row of any family counts.
        let mut all = [known(&[("a", &[9]), ("b", &[5, 6]), ("c", &[7])]), known(&[("a", &[3])])];
        assert_eq!(choose(&mut shown, &all, 2), 3);
        is(&shown, &["a", "b"]);
        // One with a lower row comes, and has to wait.
        let _ = all[0].insert(named("d"), vec![ServiceIndex(4)]);
        assert_eq!(choose(&mut shown, &all, 2), 4);
        is(&shown, &["a", "b"]);
        let _ = all[0].remove(&named("b"));
        assert_eq!(choose(&mut shown, &all, 2), 3);
        is(&shown, &["a", "d"]);
        assert_eq!(choose(&mut shown, &all, 0), 3);
        is(&shown, &["a", "d"]);
        assert_eq!(choose(&mut BTreeSet::new(), &all, 0), 3);
        assert_eq!(choose(&mut shown, &[], 2), 0);
        is(&shown, &[]);
    }
}
