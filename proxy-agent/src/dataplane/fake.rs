// SPDX-License-Identifier: Apache-2.0
//! Tables in memory, for tests: they hold what the kernel's would, watch that every single write
//! leaves them safe to read, and can be made to fail.

mod dump;
mod safety;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use proxy_common::{
    Family,
    backend::{Backend, BackendId},
    frontend::{Frontend, FrontendKey, ServiceIndex},
    name,
    service::Service,
    service_cidr::Prefix,
    shortfall::Shortfall,
};

use self::safety::Safety;
use super::{Contents, Dataplane, Failure, Op, Refusal, Rows, SetKind};

/// The tables of one family in memory.
#[derive(Debug)]
pub struct Fake<F: Family> {
    /// How much room there is said to be.
    pub rows: Rows,
    /// Frontends.
    pub frontends: BTreeMap<FrontendKey<F>, Frontend>,
    /// Service ports; a row of zeros is not in here, nor one that was removed.
    pub services: BTreeMap<ServiceIndex, Service>,
    /// The rows that were removed, and have not been used again.
    pub removed: BTreeSet<ServiceIndex>,
    /// Names of Service ports.
    pub names: BTreeMap<ServiceIndex, name::ServiceName>,
    /// The source ranges of Service ports.
    pub source_ranges: BTreeSet<(ServiceIndex, Prefix<F>)>,
    /// Guarded prefixes of Service CIDRs.
    pub service_cidrs: BTreeSet<Prefix<F>>,
    /// What of Services is missing, by row.
    pub shortfalls: BTreeMap<u32, Shortfall>,
    /// All slots that were ever written.
    pub slots: BTreeMap<u32, BackendId>,
    /// All backends that were ever written.
    pub backends: BTreeMap<BackendId, Backend<F>>,
    /// Flows: the rows that they refer to, and what these were called when the flows were opened.
    pub flows: Vec<(ServiceIndex, name::ServiceName)>,
    /// Nothing where the checks, which look at everything after every write, would take too long.
    safety: Option<Safety>,
}

impl<F: Family> Default for Fake<F> {
    fn default() -> Self {
        Self { safety: Some(Safety::default()), ..Self::unchecked() }
    }
}

impl<F: Family> Fake<F> {
    /// Tables that do not watch what is written to them.
    #[must_use]
    pub const fn unchecked() -> Self {
        Self {
            rows: Rows::CAPACITY,
            frontends: BTreeMap::new(),
            services: BTreeMap::new(),
            removed: BTreeSet::new(),
            names: BTreeMap::new(),
            source_ranges: BTreeSet::new(),
            service_cidrs: BTreeSet::new(),
            shortfalls: BTreeMap::new(),
            slots: BTreeMap::new(),
            backends: BTreeMap::new(),
            flows: Vec::new(),
            safety: None,
        }
    }

    /// Sets the time, by which it judges whether what was freed has rested.
    pub const fn set_time(&mut self, now: Duration) {
        if let Some(safety) = &mut self.safety {
            safety.now = now;
        }
    }

    /// What a program that read the tables between two writes could have stumbled over.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        self.safety.as_ref().map_or(&[], Safety::violations)
    }

    /// Whether a backend's endpoint has stopped serving.
    #[must_use]
    pub fn is_retired(&self, id: BackendId) -> bool {
        let safety = self.safety.as_ref();
        safety.is_some_and(|safety| safety.is_retired(id))
    }

    /// The source ranges of a Service port, in order.
    pub fn ranges_of(&self, index: ServiceIndex) -> impl Iterator<Item = &Prefix<F>> {
        let all = self.source_ranges.iter();
        all.filter(move |(of, _)| *of == index).map(|(_, range)| range)
    }

    fn write(&mut self, op: &Op<F>) {
        match op {
            Op::PutBackend { id, backend }
            | Op::SetStanding { id, backend }
            | Op::RetireBackend { id, backend } => {
                let _ = self.backends.insert(*id, *backend);
            }
            Op::PutSlots { start, ids } => self.slots.extend((*start..).zip(ids.iter().copied())),
            Op::PutSet { index, which, set } => {
                let service = self.services.entry(*index).or_default();
                match which {
                    SetKind::Cluster => service.cluster = *set,
                    SetKind::Local => service.local = *set,
                }
            }
            Op::PutPolicy { index, policy } => {
                let _ = self.removed.remove(index);
                self.services.entry(*index).or_default().policy = *policy;
            }
            Op::PutSourceRange { index, range } => {
                let _ = self.source_ranges.insert((*index, *range));
            }
            Op::RemoveSourceRange { index, range } => {
                let _ = self.source_ranges.remove(&(*index, *range));
            }
            Op::PutName { index, name } => {
                let _ = self.names.insert(*index, **name);
            }
            Op::PutFrontend { key, frontend } => {
                let _ = self.frontends.insert(*key, *frontend);
            }
            Op::RemoveFrontend { key } => {
                let _ = self.frontends.remove(key);
            }
            Op::PutServiceCidr { prefix } => {
                let _ = self.service_cidrs.insert(*prefix);
            }
            Op::RemoveServiceCidr { prefix } => {
                let _ = self.service_cidrs.remove(prefix);
            }
            Op::PutShortfall { row, shortfall } => {
                let _ = self.shortfalls.insert(*row, **shortfall);
            }
            Op::RemoveShortfall { row } => {
                let _ = self.shortfalls.remove(row);
            }
            Op::RemoveService { index } => {
                let _ = self.services.remove(index);
                let _ = self.removed.insert(*index);
                let _ = self.names.remove(index);
            }
        }
    }
}

impl<F: Family> Dataplane<F> for Fake<F> {
    type Error = Infallible;

    fn apply(&mut self, ops: &[Op<F>]) -> Result<(), Failure<Infallible>> {
        for op in ops {
            // Taken out, so that it can look at the tables.
            let mut safety = self.safety.take();
            if let Some(safety) = &mut safety {
                safety.check_before(self, op);
            }
            self.write(op);
            if let Some(safety) = &mut safety {
                safety.check_after(self, op);
            }
            self.safety = safety;
        }
        Ok(())
    }

    fn take_over(&mut self) -> Result<Contents<F>, Infallible> {
        let row = |index| self.services.get(index).copied().unwrap_or_default();
        let services = self.names.iter().map(|(index, name)| (*index, *name, row(index)));
        Ok(Contents {
            rows: self.rows,
            services: services.collect(),
            removed: self.removed.iter().copied().collect(),
            slots: self.slots.iter().map(|(slot, id)| (*slot, *id)).collect(),
            backends: self.backends.iter().map(|(id, backend)| (*id, *backend)).collect(),
            frontends: self.frontends.iter().map(|(key, frontend)| (*key, *frontend)).collect(),
            source_ranges: self.source_ranges.iter().copied().collect(),
            service_cidrs: self.service_cidrs.iter().copied().collect(),
            shortfalls: self.shortfalls.keys().copied().collect(),
        })
    }
}

impl Refusal for Infallible {}

/// A dataplane of which chosen operations fail, without effect.
#[derive(Debug)]
pub struct Faulty<D, C> {
    /// What carries out the others.
    pub inner: D,
    /// Says whether an operation fails; it is asked about each once, in their order.
    pub fails: C,
}

/// An operation was chosen to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chosen to fail")]
pub struct Chosen;

impl Refusal for Chosen {}

impl<F, D, C> Dataplane<F> for Faulty<D, C>
where
    F: Family,
    D: Dataplane<F, Error = Infallible>,
    C: FnMut(&Op<F>) -> bool,
{
    type Error = Chosen;

    fn apply(&mut self, ops: &[Op<F>]) -> Result<(), Failure<Chosen>> {
        for (applied, op) in ops.iter().enumerate() {
            if (self.fails)(op) {
                return Err(Failure { applied, error: Chosen });
            }
            match self.inner.apply(std::slice::from_ref(op)) {
                Ok(()) => {}
                Err(Failure { error, .. }) => match error {},
            }
        }
        Ok(())
    }

    fn take_over(&mut self) -> Result<Contents<F>, Chosen> {
        Ok(self.inner.take_over().unwrap_or_else(|never| match never {}))
    }
}

impl<F: Family, D: Dataplane<F>> Dataplane<F> for Arc<Mutex<D>> {
    type Error = D::Error;

    fn apply(&mut self, ops: &[Op<F>]) -> Result<(), Failure<D::Error>> {
        self.lock().unwrap_or_else(PoisonError::into_inner).apply(ops)
    }

    fn take_over(&mut self) -> Result<Contents<F>, D::Error> {
        self.lock().unwrap_or_else(PoisonError::into_inner).take_over()
    }
}
