// SPDX-License-Identifier: Apache-2.0
//! One Service port: what its rows hold, and what must be written to make them hold what its
//! plan says.

use std::{collections::BTreeMap, mem, time::Duration};

use proxy_common::{
    Family,
    backend::{Backend, BackendId},
    frontend::ServiceIndex,
    name::{self, label},
    service::{BackendSet, EmptySet, Policy},
};

use super::{
    allocator::REST,
    ids::{Exhausted, Ids},
    set::Set,
};
use crate::{
    dataplane::{Op, SetKind},
    plan::{EndpointAddress, PortPlan, SetPlan},
};

/// What the tables hold for a Service port, and what was taken to be written next.
#[derive(Debug)]
pub(super) struct Row<F: Family> {
    pub(super) index: ServiceIndex,
    backends: BTreeMap<EndpointAddress<F>, Held>,
    sets: BTreeMap<SetKind, Set>,
    policy: Policy,
    name: Option<name::ServiceName>,
}

/// The row of an endpoint.
#[derive(Debug)]
struct Held {
    id: BackendId,
    generation: u32,
    written: bool,
}

impl<F: Family> Row<F> {
    pub(super) const fn new(index: ServiceIndex) -> Self {
        Self {
            index,
            backends: BTreeMap::new(),
            sets: BTreeMap::new(),
            policy: Policy::from_word(0),
            name: None,
        }
    }

    /// What must be written so that new flows are served as `plan` says. Takes the rows for it.
    pub(super) fn raise(
        &mut self,
        plan: &PortPlan<F>,
        ids: &mut Ids,
        now: Duration,
    ) -> Result<Vec<Op<F>>, Exhausted> {
        let mut ops = self.put_backends(&plan.serving, ids, now)?;
        let index = self.index;
        let mut words = Vec::new();
        for (which, wanted) in [(SetKind::Cluster, &plan.cluster), (SetKind::Local, &plan.local)] {
            let Some(wanted) = wanted else { continue };
            let (empty, members) = match wanted {
                SetPlan::Empty(EmptySet::Reject) => (BackendSet::REJECT, Vec::new()),
                SetPlan::Empty(EmptySet::Drop) => (BackendSet::DROP, Vec::new()),
                SetPlan::Endpoints(members) => (BackendSet::REJECT, self.ids_of(members)),
            };
            let set = self.sets.entry(which).or_default();
            set.unwanted_since = None;
            if set.stage(empty, members, plan.sockets_only, ids, now)?
                && let Some(staged) = &set.staged
            {
                if !staged.ids.is_empty() {
                    let (start, ids) = (staged.word.start(), staged.ids.clone());
                    ops.push(Op::PutSlots { start, ids });
                }
                let set = staged.word;
                words.push(Op::PutSet { index, which, set });
            }
        }
        ops.append(&mut words);
        if self.policy != plan.policy {
            let policy = plan.policy;
            ops.push(Op::PutPolicy { index, policy });
        }
        let name = abi_name(plan);
        if self.name != Some(name) {
            let name = Box::new(name);
            ops.push(Op::PutName { index, name });
        }
        Ok(ops)
    }

    /// What must be written to take away what `plan` has no place for; without a plan, all. The
    /// second value says when there will be more.
    pub(super) fn lower(
        &mut self,
        plan: Option<&PortPlan<F>>,
        ids: &mut Ids,
        now: Duration,
    ) -> (Vec<Op<F>>, Option<Duration>) {
        let index = self.index;
        let mut ops = Vec::new();
        let mut again = None;
        if let Some(plan) = plan {
            for (which, wanted) in
                [(SetKind::Cluster, plan.cluster.is_some()), (SetKind::Local, plan.local.is_some())]
            {
                let Some(set) = self.sets.get_mut(&which) else {
                    continue;
                };
                if wanted {
                    continue;
                }
                let rested = *set.unwanted_since.get_or_insert(now) + REST;
                if now < rested {
                    again = Some(rested);
                    continue;
                }
                set.stage_empty(BackendSet::REJECT, ids, now);
                let set = BackendSet::REJECT;
                ops.push(Op::PutSet { index, which, set });
            }
        }
        self.retire_backends(plan.map_or(&[], |plan| &plan.serving), ids, now, &mut ops);
        if plan.is_none() {
            ops.push(Op::RemoveService { index });
        }
        (ops, again)
    }

    /// Notes that an operation has been carried out.
    pub(super) fn commit(&mut self, op: &Op<F>, ids: &mut Ids, now: Duration) {
        match op {
            Op::PutBackend { backend, .. } => {
                if let Some(held) = self.backends.get_mut(&address_of(backend)) {
                    held.written = true;
                }
            }
            Op::RetireBackend { id, backend } => {
                let _ = self.backends.remove(&address_of(backend));
                ids.release_backend(*id, now);
            }
            Op::PutSet { which, .. } => {
                if let Some(set) = self.sets.get_mut(which) {
                    set.publish(ids, now);
                    if set.unwanted_since.is_some() {
                        let _ = self.sets.remove(which);
                    }
                }
            }
            Op::PutPolicy { policy, .. } => self.policy = *policy,
            Op::PutName { name, .. } => self.name = Some(**name),
            Op::RemoveService { index } => {
                for set in mem::take(&mut self.sets).into_values() {
                    ids.release_slots(set.published.word, now);
                    ids.release_slots(set.staged.unwrap_or_default().word, now);
                }
                ids.release_service(*index, now);
            }
            // Not of a row.
            Op::PutSlots { .. }
            | Op::PutFrontend { .. }
            | Op::RemoveFrontend { .. }
            | Op::PutServiceCidr { .. }
            | Op::RemoveServiceCidr { .. } => {}
        }
    }

    /// Gives every serving endpoint a row, and says which are still to be written.
    fn put_backends(
        &mut self,
        serving: &[EndpointAddress<F>],
        ids: &mut Ids,
        now: Duration,
    ) -> Result<Vec<Op<F>>, Exhausted> {
        let mut ops = Vec::new();
        let service = self.index;
        for endpoint in serving {
            if !self.backends.contains_key(endpoint) {
                let (id, generation) = ids.take_backend(now)?;
                let held = Held { id, generation, written: false };
                let _ = self.backends.insert(*endpoint, held);
            }
            let held = &self.backends[endpoint];
            if !held.written {
                let backend =
                    Backend::new(endpoint.address, endpoint.port, held.generation, service);
                ops.push(Op::PutBackend { id: held.id, backend });
            }
        }
        Ok(ops)
    }

    /// Raises the generations of all but the serving endpoints' rows. A row that was never
    /// written is given back at once.
    fn retire_backends(
        &mut self,
        serving: &[EndpointAddress<F>],
        ids: &mut Ids,
        now: Duration,
        ops: &mut Vec<Op<F>>,
    ) {
        let service = self.index;
        self.backends.retain(|endpoint, held| {
            if serving.binary_search(endpoint).is_ok() {
                return true;
            }
            if held.written {
                let generation = ids.raise_generation(held.id);
                let backend = Backend::new(endpoint.address, endpoint.port, generation, service);
                ops.push(Op::RetireBackend { id: held.id, backend });
            } else {
                ids.release_backend(held.id, now);
            }
            held.written
        });
    }

    /// The rows of endpoints. All that a set holds are serving, so all have one.
    fn ids_of(&self, endpoints: &[EndpointAddress<F>]) -> Vec<BackendId> {
        endpoints
            .iter()
            .filter_map(|endpoint| self.backends.get(endpoint))
            .map(|held| held.id)
            .collect()
    }
}

const fn address_of<F: Family>(backend: &Backend<F>) -> EndpointAddress<F> {
    EndpointAddress { address: backend.address, port: backend.port }
}

fn abi_name<F: Family>(plan: &PortPlan<F>) -> name::ServiceName {
    name::ServiceName {
        namespace: label(&plan.name.service.namespace),
        name: label(&plan.name.service.name),
        port: label(&plan.name.port),
        protocol: plan.id.protocol,
        number: plan.id.number,
    }
}
