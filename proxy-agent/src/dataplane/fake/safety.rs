// SPDX-License-Identifier: Apache-2.0
//! What must hold between any two writes, since a program may read the tables at any moment, and
//! what no write may do.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use proxy_common::{
    Family,
    backend::{Backend, BackendId, Standing},
    frontend::{FrontendKind, ServiceIndex},
    name::ServiceName,
    service::{BackendSet, Policy, Service},
};

use super::Fake;
use crate::{dataplane::Op, reconcile::allocator::REST};

/// What the checks remember.
#[derive(Debug, Default)]
pub(super) struct Safety {
    pub(super) now: Duration,
    violations: Vec<String>,
    retired: BTreeMap<BackendId, Duration>,
    /// When a slot was last in a published set.
    unpublished: BTreeMap<u32, Duration>,
    removed: BTreeMap<ServiceIndex, Duration>,
}

impl Safety {
    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(super) fn is_retired(&self, id: BackendId) -> bool {
        self.retired.contains_key(&id)
    }

    /// Whether what was freed then may be used again.
    fn rested(&self, freed: Option<Duration>) -> bool {
        freed.is_none_or(|freed| self.now >= freed + REST)
    }

    /// Whether a row may be written to.
    fn is_free(&self, index: ServiceIndex) -> bool {
        index >= ServiceIndex::FIRST && self.rested(self.removed.get(&index).copied())
    }

    /// What the operation itself must not do.
    pub(super) fn check_before<F: Family>(&mut self, tables: &Fake<F>, op: &Op<F>) {
        let holds = match op {
            // Writing again what is there is harmless; another endpoint must wait until nobody
            // can hold the id, and must not look like the one before.
            Op::PutBackend { id, backend } => tables.backends.get(id).is_none_or(|old| {
                let retired = self.retired.remove(id);
                let free = retired.is_some() && self.rested(retired);
                old == backend || (free && old.generation < backend.generation)
            }),
            Op::RetireBackend { id, backend } => {
                let _ = self.retired.insert(*id, self.now);
                tables.backends.get(id).is_some_and(|old| {
                    (old.address, old.port) == (backend.address, backend.port)
                        && old.generation < backend.generation
                })
            }
            Op::SetStanding { id, backend } => {
                let same =
                    |old: &Backend<F>| Backend { standing: backend.standing, ..*old } == *backend;
                tables.backends.get(id).is_some_and(same) && !self.is_retired(*id)
            }
            Op::PutSlots { start, ids } => {
                let published: BTreeSet<u32> = published_slots(tables).collect();
                (*start..).zip(ids).all(|(slot, id)| {
                    let free = !published.contains(&slot)
                        && self.rested(self.unpublished.get(&slot).copied());
                    free || tables.slots.get(&slot) == Some(id)
                })
            }
            Op::PutSet { index, .. } => self.is_free(*index),
            Op::PutName { index, name } => {
                self.is_free(*index) && !is_anothers(tables, *index, name)
            }
            Op::PutPolicy { index, policy } => {
                let restricts = policy.has(Policy::SOURCE_RANGES);
                self.is_free(*index) && (!restricts || tables.ranges_of(*index).next().is_some())
            }
            Op::PutSourceRange { index, range } => {
                self.is_free(*index) && !tables.source_ranges.contains(&(*index, *range))
            }
            Op::RemoveSourceRange { index, range } => {
                tables.source_ranges.contains(&(*index, *range))
            }
            Op::PutFrontend { key, .. } => !tables.frontends.contains_key(key),
            Op::RemoveFrontend { key } => tables.frontends.contains_key(key),
            Op::PutServiceCidr { prefix } => !tables.service_cidrs.contains(prefix),
            Op::RemoveServiceCidr { prefix } => tables.service_cidrs.contains(prefix),
            Op::PutShortfall { .. } | Op::RemoveShortfall { .. } => true,
            Op::RemoveService { index } => {
                let _ = self.removed.insert(*index, self.now);
                !tables.frontends.values().any(|pointed| pointed.service() == *index)
                    && tables.ranges_of(*index).next().is_none()
            }
        };
        if !holds {
            self.violations.push(format!("must not {op:?}"));
        }
        self.note_unpublished(tables, op);
    }

    /// Remembers when slots leave the published sets.
    fn note_unpublished<F: Family>(&mut self, tables: &Fake<F>, op: &Op<F>) {
        let row = |index| tables.services.get(index).copied().unwrap_or_default();
        let gone = match op {
            Op::PutSet { index, which, .. } => vec![which.of(&row(index))],
            Op::RemoveService { index } => vec![row(index).cluster, row(index).local],
            _ => return,
        };
        let slots = gone.into_iter().flat_map(range);
        self.unpublished.extend(slots.map(|slot| (slot, self.now)));
    }

    /// What a reader must not find after the operation.
    pub(super) fn check_after<F: Family>(&mut self, tables: &Fake<F>, op: &Op<F>) {
        for (key, frontend) in &tables.frontends {
            let index = &frontend.service();
            if *index < ServiceIndex::FIRST {
                continue;
            }
            let mut found = |what: &str| {
                self.violations.push(format!("after {op:?}: {key:?} {what}"));
            };
            if !tables.names.contains_key(index) {
                found("points at a row without a name");
            }
            let row = tables.services.get(index).copied().unwrap_or_default();
            if row.policy.has(Policy::SOURCE_RANGES) && tables.ranges_of(*index).next().is_none() {
                found("admits nobody");
            }
            for (set, bit) in [(row.cluster, Standing::IN_CLUSTER), (row.local, Standing::IN_LOCAL)]
            {
                let ids = range(set).filter_map(|slot| tables.slots.get(&slot));
                let serving = ids.filter(|id| !self.retired.contains_key(id));
                let backends = serving.filter_map(|id| tables.backends.get(id));
                // Of a set that nobody has chosen from for long, others may have got the rows.
                let mut own = backends.filter(|backend| backend.service == *index);
                if own.any(|backend| !backend.standing.has(bit)) {
                    found("has a backend that does not know that it is in a set");
                }
            }
            for slot in selected(&row, frontend.kind()).into_iter().flat_map(range) {
                match tables.slots.get(&slot) {
                    None => found("has a slot that was never written"),
                    Some(id) if !tables.backends.contains_key(id) => {
                        found("has a backend that was never written");
                    }
                    Some(id) if self.retired.contains_key(id) => found("has a retired backend"),
                    Some(id) if tables.backends[id].service != *index => {
                        found("has a backend of another Service port");
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

/// Whether flows refer to a row as that of another Service port.
fn is_anothers<F: Family>(tables: &Fake<F>, index: ServiceIndex, name: &ServiceName) -> bool {
    let port = |of: &ServiceName| (of.namespace, of.name, of.protocol, of.number);
    tables.flows.iter().any(|(row, of)| *row == index && port(of) != port(name))
}

fn published_slots<F: Family>(tables: &Fake<F>) -> impl Iterator<Item = u32> {
    let rows = tables.services.values();
    rows.flat_map(|row| [row.cluster, row.local]).flat_map(range)
}

/// The slots of a set.
pub(super) const fn range(set: BackendSet) -> Range<u32> {
    set.start()..set.start() + set.count()
}

/// The sets that serve a row's frontends of this kind: clients on the node have the set of all nodes
/// at what the outside dials.
fn selected(row: &Service, kind: FrontendKind) -> Vec<BackendSet> {
    match kind {
        FrontendKind::ClusterIp if row.policy.has(Policy::INTERNAL_LOCAL) => vec![row.local],
        FrontendKind::ClusterIp => vec![row.cluster],
        _ if row.policy.has(Policy::EXTERNAL_LOCAL) => vec![row.cluster, row.local],
        _ => vec![row.cluster],
    }
}
