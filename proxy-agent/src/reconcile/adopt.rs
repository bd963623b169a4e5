// SPDX-License-Identifier: Apache-2.0
//! Taking over tables as another agent has left them: which rows mean what, what is in use, and what has to
//! rest. Nothing is written. What is there belongs to Services of which no plan is known, so that the first
//! [`flush`](super::FamilyReconciler::flush) leaves what the plans want as it is, and removes the rest.

use std::{collections::HashMap, error::Error, ops::Range, time::Duration};

use proxy_common::{
    Family,
    backend::{Backend, BackendId, Standing},
    frontend::{Frontend, FrontendKey, ServiceIndex},
    name::{self, text},
    service::{BackendSet, Service},
};

use super::{
    backends::Adoption,
    family::{Entry, FamilyReconciler},
    row::{Row, port_of},
};
use crate::{
    dataplane::{Contents, SetKind},
    model::ServiceName,
    plan::PortId,
};

/// Why tables cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// They cannot be read.
    #[error("cannot read what an earlier agent has left")]
    Read(#[source] Box<dyn Error + Send + Sync>),
    /// No agent has left them like that.
    #[error(
        "what an earlier agent has left contradicts itself at Service port {}: remove it with `sixfour cleanup`",
        .0.0
    )]
    Contradiction(ServiceIndex),
}

impl AdoptError {
    /// They cannot be read, for this reason.
    pub fn read(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Read(Box::new(error))
    }
}

/// Where the row of a Service port is kept.
type Owners = HashMap<ServiceIndex, (ServiceName, PortId)>;

impl<F: Family> FamilyReconciler<F> {
    /// Takes over what the tables hold. To be called before anything else. `now` is on the clock that is passed
    /// to [`flush`](Self::flush): rows that nobody has rest from then on, if somebody may have had them.
    ///
    /// # Errors
    ///
    /// If the contents make no sense.
    pub fn adopt(&mut self, contents: Contents<F>, now: Duration) -> Result<(), AdoptError> {
        let Contents { services, removed, slots, backends, .. } = contents;
        let Contents { frontends, source_ranges, shortfalls, .. } = contents;
        let mut owners = Owners::with_capacity(services.len());
        for (index, name, found) in services {
            let row = self.adopt_row(index, &name, found, &slots);
            let row = row.ok_or(AdoptError::Contradiction(index))?;
            let _ = owners.insert(index, self.keep(&name, row));
        }
        self.rest_slots(slots, now);
        self.adopt_backends(backends, &owners, now);
        self.adopt_frontends(frontends, &owners);
        for (index, range) in source_ranges {
            match self.row_of(&owners, index) {
                Some(row) => row.found_range(range),
                None => self.leftovers.ranges.push((index, range)),
            }
        }
        self.shortfalls.adopt(shortfalls);
        // One that has a name has been given out again, or was about to be removed.
        let free = removed.into_iter().filter(|index| !owners.contains_key(index));
        let removed: Runs = free.map(|index| index.0).collect();
        removed.0.into_iter().for_each(|indices| self.ids.rest_services(indices, now));
        for name in self.services.keys() {
            self.schedule.mark(name.clone());
        }
        Ok(())
    }

    /// The Services whose frontends were taken over, and how many each has. To be called before anything is planned.
    pub fn adopted(&self) -> impl Iterator<Item = (&ServiceName, usize)> {
        let entries = self.services.iter().filter(|(_, entry)| !entry.touched.is_empty());
        entries.map(|(name, entry)| (name, entry.touched.len()))
    }

    /// A Service port's row as it is, with what it has in other tables; nothing if another has that.
    fn adopt_row(
        &mut self,
        index: ServiceIndex,
        name: &name::ServiceName,
        found: Service,
        slots: &[(u32, BackendId)],
    ) -> Option<Row<F>> {
        let mut is_free = self.ids.adopt_service(index);
        let mut row = Row::new(index).with_name(port_of(name)).with_policy(found.policy);
        for which in SetKind::ALL {
            let word = which.of(&found);
            is_free &= self.ids.adopt_slots(word);
            row.found_set(which, word, members(word, slots)?);
        }
        is_free.then_some(row)
    }

    /// Keeps a row as its Service's. Of two that have one name, the second is nobody's: it gets a name that no
    /// object has.
    fn keep(&mut self, name: &name::ServiceName, row: Row<F>) -> (ServiceName, PortId) {
        let text = |label| text(label).unwrap_or_default();
        let mut service = ServiceName::new(text(&name.namespace), text(&name.name));
        let port = PortId { number: name.number, protocol: name.protocol };
        if self.services.get(&service).is_some_and(|entry| entry.rows.get(&port).is_some()) {
            service = ServiceName::new("", &format!("{service}#{}", row.index.0));
        }
        let entry = self.services.entry(service.clone()).or_insert_with(Entry::unknown);
        let _ = entry.rows.insert(port, row);
        (service, port)
    }

    fn adopt_backends(
        &mut self,
        backends: Vec<(BackendId, Backend<F>)>,
        owners: &Owners,
        now: Duration,
    ) {
        let mut gone = Vec::new();
        for (id, backend) in backends {
            self.ids.found_generation(id, backend.generation);
            if backend.standing.has(Standing::GONE) {
                gone.push(id.0);
                continue;
            }
            self.ids.adopt_backend(id);
            let row = self.row_of(owners, backend.service);
            match row.map_or(Adoption::Refused, |row| row.found_backend(id, &backend)) {
                Adoption::Held => {}
                Adoption::Refused => self.leftovers.backends.push((id, backend)),
                Adoption::InPlaceOf(id, backend) => self.leftovers.backends.push((id, backend)),
            }
        }
        let gone: Runs = gone.into_iter().collect();
        gone.0.into_iter().for_each(|ids| self.ids.rest_backends(ids, now));
    }

    fn adopt_frontends(&mut self, frontends: Vec<(FrontendKey<F>, Frontend)>, owners: &Owners) {
        for (key, frontend) in frontends {
            self.frontends.found(key, frontend);
            let owner = owners.get(&frontend.service());
            match owner.and_then(|(service, _)| self.services.get_mut(service)) {
                Some(entry) => entry.touched.push(key),
                None => self.leftovers.frontends.push(key),
            }
        }
        for entry in self.services.values_mut() {
            entry.touched.sort_unstable();
        }
    }

    /// Lets the slots rest that no set has any more.
    fn rest_slots(&mut self, written: Vec<(u32, BackendId)>, now: Duration) {
        let slots = written.into_iter().map(|(slot, _)| slot);
        let free: Runs = slots.filter(|slot| self.ids.is_free_slot(*slot)).collect();
        free.0.into_iter().for_each(|slots| self.ids.rest_slots(slots, now));
    }

    fn row_of(&mut self, owners: &Owners, index: ServiceIndex) -> Option<&mut Row<F>> {
        let (service, port) = owners.get(&index)?;
        self.services.get_mut(service)?.rows.get_mut(port)
    }
}

/// Rows that follow each other.
struct Runs(Vec<Range<u32>>);

impl FromIterator<u32> for Runs {
    /// Of rows in ascending order.
    fn from_iter<I: IntoIterator<Item = u32>>(rows: I) -> Self {
        let mut runs = Vec::<Range<u32>>::new();
        for row in rows {
            match runs.last_mut() {
                Some(last) if last.end == row => last.end += 1,
                _ => runs.push(row..row + 1),
            }
        }
        Self(runs)
    }
}

/// What the slots of a set name, of all that were ever written; nothing if one of them was not.
fn members(word: BackendSet, slots: &[(u32, BackendId)]) -> Option<Vec<BackendId>> {
    if word.count() == 0 {
        return Some(Vec::new());
    }
    let first = slots.binary_search_by_key(&word.start(), |(slot, _)| *slot).ok()?;
    let own = slots.get(first..first.checked_add(word.count() as usize)?)?;
    let follow = own.iter().zip(word.start()..).all(|((slot, _), wanted)| *slot == wanted);
    follow.then(|| own.iter().map(|(_, id)| *id).collect())
}
