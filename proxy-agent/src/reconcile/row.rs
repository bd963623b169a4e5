// SPDX-License-Identifier: Apache-2.0
//! One Service port: what its rows hold, and what must be written to make them hold what its
//! plan says.

use std::time::Duration;

use proxy_common::{
    Family,
    backend::{Backend, BackendId, Standing},
    frontend::{FrontendKind, ServiceIndex},
    name::{self, label},
    service::{BackendSet, EmptySet, Policy},
    service_cidr::Prefix,
};

use super::{
    allocator::REST,
    backends::{Adoption, Backends, Standings},
    ids::{Exhausted, Ids},
    ranges::Ranges,
    set::{Members, Set},
};
use crate::{
    dataplane::{Op, SetKind},
    few::Few,
    plan::{PortPlan, SetPlan},
};

/// What the tables hold for a Service port, and what was taken to be written next.
#[derive(Debug)]
pub(super) struct Row<F: Family> {
    pub(super) index: ServiceIndex,
    backends: Backends<F>,
    ranges: Ranges<F>,
    sets: Few<SetKind, Set>,
    policy: Policy,
    /// The name of the port, as the table has it.
    name: Option<Box<[u8]>>,
}

/// What must be written for a Service port.
#[derive(Debug)]
pub(super) struct Raise<F: Family> {
    pub(super) ops: Vec<Op<F>>,
    /// What there is no room for.
    pub(super) lacks: Option<Exhausted>,
}

impl<F: Family> Row<F> {
    pub(super) const fn new(index: ServiceIndex) -> Self {
        Self {
            index,
            backends: Backends::new(index),
            ranges: Ranges::new(),
            sets: Few::new(),
            // Written in any case.
            policy: Policy::GONE,
            name: None,
        }
    }

    /// The same, with a name that the table has.
    pub(super) fn with_name(self, name: &[u8]) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The same, with a policy that the table has.
    pub(super) fn with_policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Takes over a set that is published, with slots that name these.
    pub(super) fn found_set(&mut self, which: SetKind, word: BackendSet, ids: Vec<BackendId>) {
        if word != BackendSet::default() {
            let published = Members { word, ids };
            let _ = self.sets.insert(which, Set { published, ..Set::default() });
        }
    }

    /// Takes over a backend that is in the table, after the sets.
    pub(super) fn found_backend(&mut self, id: BackendId, backend: &Backend<F>) -> Adoption<F> {
        let is_in_set = || self.sets.values().any(|set| set.published.ids.contains(&id));
        self.backends.found(id, backend, is_in_set)
    }

    /// Takes over a source range that is in the table.
    pub(super) fn found_range(&mut self, range: Prefix<F>) {
        self.ranges.added(range);
    }

    /// What must be written so that new flows are served as `plan` says. Takes the rows for it; where there are not
    /// enough, by the endpoints that have some.
    pub(super) fn raise(&mut self, plan: &PortPlan<F>, ids: &mut Ids, now: Duration) -> Raise<F> {
        let mut lacks = self.backends.take(&plan.serving, ids, now).err();
        let index = self.index;
        let (mut slots, mut words) = (Vec::new(), Vec::new());
        for (which, wanted) in [(SetKind::Cluster, &plan.cluster), (SetKind::Local, &plan.local)] {
            let Some(wanted) = wanted else { continue };
            let (empty, members) = match wanted {
                SetPlan::Empty(EmptySet::Reject) => (BackendSet::REJECT, Vec::new()),
                SetPlan::Empty(EmptySet::Drop) => (BackendSet::DROP, Vec::new()),
                SetPlan::Endpoints(members) => (BackendSet::REJECT, self.backends.ids_of(members)),
            };
            let set = self.sets.get_or_insert_default(which);
            set.unwanted_since = None;
            if let Err(full) = set.stage(empty, &members, plan.sockets_only, ids, now) {
                set.stage_part(&members, plan.sockets_only, ids, now);
                lacks = lacks.or(Some(full));
            }
            if let Some(staged) = &set.staged {
                if let Some((start, ids)) = set.unwritten() {
                    slots.push(Op::PutSlots { start, ids: ids.to_vec() });
                }
                let set = staged.word;
                words.push(Op::PutSet { index, which, set });
            }
        }
        // Who enters a set has the standing before anybody finds it there.
        let standings =
            self.standings(|_, set| set.staged.iter().chain([&set.published]).collect());
        let mut ops = Vec::new();
        // What is there without a name would be nobody's to an agent that finds it.
        let name = abi_name(plan);
        if self.name.as_deref() != Some(port_of(&name)) {
            let name = Box::new(name);
            ops.push(Op::PutName { index, name });
        }
        self.backends.write(&plan.serving, &plan.on_node, &standings, &mut ops);
        ops.append(&mut slots);
        ops.append(&mut words);
        self.ranges.raise(index, &plan.source_ranges, &mut ops);
        let policy = self.policy_towards(plan);
        if self.policy != policy {
            ops.push(Op::PutPolicy { index, policy });
        }
        Raise { ops, lacks }
    }

    /// What may be taken away although not all is written that new flows of `plan` need: it makes room. Who may
    /// still be found in a set stays.
    pub(super) fn relieve(
        &mut self,
        plan: &PortPlan<F>,
        ids: &mut Ids,
        now: Duration,
    ) -> Vec<Op<F>> {
        let mut ops = Vec::new();
        let sets = &self.sets;
        let is_held = |id| sets.values().any(|set| set.published.ids.contains(&id));
        self.ranges.relieve(self.index, &plan.source_ranges, &mut ops);
        self.backends.retire(&plan.serving, is_held, ids, now, &mut ops);
        ops
    }

    /// What must be written to take away what `plan` has no place for, once frontends have been taken
    /// away; without a plan, all. The second value says when there will be more.
    pub(super) fn lower(
        &mut self,
        plan: Option<&PortPlan<F>>,
        ids: &mut Ids,
        now: Duration,
    ) -> (Vec<Op<F>>, Option<Duration>) {
        let index = self.index;
        let mut ops = Vec::new();
        let mut again = None;
        let mut withdrawn = Vec::new();
        if let Some(plan) = plan {
            if self.policy != plan.policy {
                let policy = plan.policy;
                ops.push(Op::PutPolicy { index, policy });
            }
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
                withdrawn.push(which);
                let set = BackendSet::REJECT;
                ops.push(Op::PutSet { index, which, set });
            }
        }
        if let Some(plan) = plan {
            let standings = self.standings(|which, set| {
                if withdrawn.contains(&which) { Vec::new() } else { vec![&set.published] }
            });
            self.backends.write(&plan.serving, &plan.on_node, &standings, &mut ops);
        }
        let ranges = plan.map_or(&[][..], |plan| &plan.source_ranges);
        let later = self.ranges.lower(index, ranges, plan.is_none(), now, &mut ops);
        let serving = plan.map_or(&[][..], |plan| &plan.serving);
        self.backends.retire(serving, |_| false, ids, now, &mut ops);
        if plan.is_none() {
            ops.push(Op::RemoveService { index });
        }
        (ops, again.into_iter().chain(later).min())
    }

    /// Notes that an operation has been carried out.
    pub(super) fn commit(&mut self, op: &Op<F>, ids: &mut Ids, now: Duration) {
        match op {
            Op::PutBackend { backend, .. } | Op::SetStanding { backend, .. } => {
                self.backends.written(backend);
            }
            Op::RetireBackend { id, backend } => {
                self.backends.retired(backend);
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
            Op::PutSourceRange { range, .. } => self.ranges.added(*range),
            Op::RemoveSourceRange { range, .. } => self.ranges.removed(range),
            Op::PutName { name, .. } => self.name = Some(port_of(name).into()),
            Op::RemoveService { index } => {
                for set in self.sets.take_values() {
                    set.release(ids, now);
                }
                ids.release_service(*index, now);
            }
            // Not of a row.
            Op::PutSlots { .. }
            | Op::PutFrontend { .. }
            | Op::RemoveFrontend { .. }
            | Op::PutServiceCidr { .. }
            | Op::RemoveServiceCidr { .. }
            | Op::PutShortfall { .. }
            | Op::RemoveShortfall { .. } => {}
        }
    }

    /// The policy until frontends are gone that the plan does not have: where the load balancer's
    /// addresses go with their source ranges, these restrict clients as long as anybody finds those.
    fn policy_towards(&self, plan: &PortPlan<F>) -> Policy {
        let stays = |(_, kind): &(_, FrontendKind)| *kind == FrontendKind::LoadBalancer;
        // Without a range they would keep everybody out; those of a port that was about to go are gone.
        if plan.frontends.iter().any(stays) || self.ranges.is_empty() {
            return plan.policy;
        }
        let restrictions = [Policy::SOURCE_RANGES, Policy::NODE_IN_RANGES];
        let kept = restrictions.into_iter().filter(|bit| self.policy.has(*bit));
        kept.fold(plan.policy, Policy::with)
    }

    /// In which sets backends are, by what of each set `members` names.
    fn standings(&self, members: impl Fn(SetKind, &Set) -> Vec<&Members>) -> Standings {
        let mut standings = Standings::new();
        for (which, set) in self.sets.iter() {
            let bit = match which {
                SetKind::Cluster => Standing::IN_CLUSTER,
                SetKind::Local => Standing::IN_LOCAL,
            };
            for id in members(*which, set).into_iter().flat_map(|members| &members.ids) {
                let standing = standings.entry(*id).or_default();
                *standing = standing.with(bit);
            }
        }
        standings
    }
}

/// The name of the port alone: all else of a name is that of the row.
pub(super) fn port_of(name: &name::ServiceName) -> &[u8] {
    let end = name.port.iter().position(|byte| *byte == 0);
    &name.port[..end.unwrap_or(name.port.len())]
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
