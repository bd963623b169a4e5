// SPDX-License-Identifier: Apache-2.0
//! `sixfour list backends`.

use std::{collections::BTreeSet, net::SocketAddr};

use proxy_common::{Family, backend::Standing, frontend::ServiceIndex, service::BackendSet};
use serde::Serialize;

use super::{Names, socket_address};
use crate::bpf::Tables;
use crate::cli::FilterArgs;
use crate::table::Row;

/// A backend of a Service port.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct BackendRow {
    service: String,
    family: &'static str,
    backend: SocketAddr,
    id: u32,
    generation: u32,
    /// The sets that it is in: `cluster`, `local`.
    sets: Vec<&'static str>,
    /// Whether it is on this node.
    on_node: bool,
}

impl Row for BackendRow {
    const HEAD: &'static [&'static str] =
        &["SERVICE", "FAMILY", "BACKEND", "ID", "GENERATION", "SETS", "HERE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.service.clone(),
            self.family.to_owned(),
            self.backend.to_string(),
            self.id.to_string(),
            self.generation.to_string(),
            self.sets.join(","),
            if self.on_node { "yes" } else { "no" }.to_owned(),
        ]
    }
}

/// All backends of interest that new flows can get, by Service port.
pub(super) fn rows<F: Family>(
    tables: &Tables<F>,
    filter: &FilterArgs,
) -> anyhow::Result<Vec<BackendRow>> {
    let names = Names::read(tables)?;
    let mut indices = BTreeSet::new();
    for entry in tables.frontends() {
        let index = entry?.1.service();
        if index >= ServiceIndex::FIRST {
            let _: bool = indices.insert(index);
        }
    }
    let mut rows = Vec::new();
    for index in indices {
        let name = names.of(index);
        if !filter.has_service(&name) {
            continue;
        }
        let service = tables.service(index)?;
        let cluster = members(tables, service.cluster)?;
        let local = members(tables, service.local)?;
        for id in cluster.union(&local) {
            let backend = tables.backend(*id)?;
            if !filter.has_address([backend.address.into()]) {
                continue;
            }
            let sets = [("cluster", &cluster), ("local", &local)];
            rows.push(BackendRow {
                service: name.clone(),
                family: F::NAME,
                backend: socket_address(backend.address, backend.port),
                id: id.0,
                generation: backend.generation,
                sets: sets
                    .iter()
                    .filter(|(_, set)| set.contains(id))
                    .map(|(name, _)| *name)
                    .collect(),
                on_node: backend.standing.has(Standing::ON_NODE),
            });
        }
    }
    rows.sort();
    Ok(rows)
}

fn members<F: Family>(
    tables: &Tables<F>,
    set: BackendSet,
) -> anyhow::Result<BTreeSet<proxy_common::backend::BackendId>> {
    let slots = set.start()..set.start() + set.count();
    Ok(slots.map(|slot| tables.slot(slot)).collect::<Result<_, _>>()?)
}
