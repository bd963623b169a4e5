// SPDX-License-Identifier: Apache-2.0
//! The backends of one Service port: the rows of its endpoints.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use proxy_common::{
    Family,
    backend::{Backend, BackendId, Standing},
    frontend::ServiceIndex,
};

use super::ids::{Exhausted, Ids};
use crate::{dataplane::Op, plan::EndpointAddress};

/// In which sets each backend is.
pub(super) type Standings = BTreeMap<BackendId, Standing>;

/// The rows of a Service port's endpoints.
#[derive(Debug)]
pub(super) struct Backends<F: Family> {
    service: ServiceIndex,
    held: BTreeMap<EndpointAddress<F>, Held>,
}

/// What becomes of a backend that was found.
#[derive(Debug)]
pub(super) enum Adoption<F: Family> {
    /// It is that of its endpoint.
    Held,
    /// Its endpoint has another one.
    Refused,
    /// It is that of its endpoint, and this one is not any more.
    InPlaceOf(BackendId, Backend<F>),
}

/// The row of an endpoint.
#[derive(Debug)]
struct Held {
    id: BackendId,
    generation: u32,
    standing: Standing,
    written: bool,
}

impl Held {
    fn backend<F: Family>(&self, at: EndpointAddress<F>, service: ServiceIndex) -> Backend<F> {
        let backend = Backend::new(at.address, at.port, self.generation, service);
        Backend { standing: self.standing, ..backend }
    }
}

impl<F: Family> Backends<F> {
    pub(super) const fn new(service: ServiceIndex) -> Self {
        Self { service, held: BTreeMap::new() }
    }

    /// Takes over a backend that is in the table. Of two for one endpoint, the one that is in a set is right.
    pub(super) fn found(
        &mut self,
        id: BackendId,
        backend: &Backend<F>,
        is_in_set: impl FnOnce() -> bool,
    ) -> Adoption<F> {
        let at = address_of(backend);
        let Backend { generation, standing, .. } = *backend;
        let found = Held { id, generation, standing, written: true };
        match self.held.entry(at) {
            Entry::Vacant(free) => {
                let _ = free.insert(found);
                Adoption::Held
            }
            Entry::Occupied(_) if !is_in_set() => Adoption::Refused,
            Entry::Occupied(mut taken) => {
                let former = taken.insert(found);
                Adoption::InPlaceOf(former.id, former.backend(at, self.service))
            }
        }
    }

    /// Gives every serving endpoint a row.
    pub(super) fn take(
        &mut self,
        serving: &[EndpointAddress<F>],
        ids: &mut Ids,
        now: Duration,
    ) -> Result<(), Exhausted> {
        for endpoint in serving {
            if !self.held.contains_key(endpoint) {
                let (id, generation) = ids.take_backend(now)?;
                let standing = Standing::default();
                let held = Held { id, generation, standing, written: false };
                let _ = self.held.insert(*endpoint, held);
            }
        }
        Ok(())
    }

    /// The rows of endpoints. All that a set holds are serving, so all have one.
    pub(super) fn ids_of(&self, endpoints: &[EndpointAddress<F>]) -> Vec<BackendId> {
        let held = endpoints.iter().filter_map(|endpoint| self.held.get(endpoint));
        held.map(|held| held.id).collect()
    }

    /// Says which of the serving endpoints' rows are still to be written, whole or as to their
    /// standing.
    pub(super) fn write(
        &self,
        serving: &[EndpointAddress<F>],
        on_node: &BTreeSet<EndpointAddress<F>>,
        standings: &Standings,
        ops: &mut Vec<Op<F>>,
    ) {
        for endpoint in serving {
            let Some(held) = self.held.get(endpoint) else {
                continue;
            };
            let mut standing = standings.get(&held.id).copied().unwrap_or_default();
            if on_node.contains(endpoint) {
                standing = standing.with(Standing::ON_NODE);
            }
            let backend = Backend { standing, ..held.backend(*endpoint, self.service) };
            let id = held.id;
            if !held.written {
                ops.push(Op::PutBackend { id, backend });
            } else if held.standing != standing {
                ops.push(Op::SetStanding { id, backend });
            }
        }
    }

    /// Raises the generations of all but the serving endpoints' rows, and those that must stay. A row that was
    /// never written is given back at once.
    pub(super) fn retire(
        &mut self,
        serving: &[EndpointAddress<F>],
        stays: impl Fn(BackendId) -> bool,
        ids: &mut Ids,
        now: Duration,
        ops: &mut Vec<Op<F>>,
    ) {
        let service = self.service;
        self.held.retain(|endpoint, held| {
            if serving.binary_search(endpoint).is_ok() || stays(held.id) {
                return true;
            }
            if held.written {
                let generation = ids.raise_generation(held.id);
                let standing = Standing::GONE;
                let backend = Backend { generation, standing, ..held.backend(*endpoint, service) };
                ops.push(Op::RetireBackend { id: held.id, backend });
            } else {
                ids.release_backend(held.id, now);
            }
            held.written
        });
    }

    /// Notes that a backend has been written, whole or as to its standing.
    pub(super) fn written(&mut self, backend: &Backend<F>) {
        if let Some(held) = self.held.get_mut(&address_of(backend)) {
            held.written = true;
            held.standing = backend.standing;
        }
    }

    /// Notes that a backend has been retired.
    pub(super) fn retired(&mut self, backend: &Backend<F>) {
        let _ = self.held.remove(&address_of(backend));
    }
}

const fn address_of<F: Family>(backend: &Backend<F>) -> EndpointAddress<F> {
    EndpointAddress { address: backend.address, port: backend.port }
}
