// SPDX-License-Identifier: Apache-2.0
//! The rows of all tables of a family.
//!
//! What refers to a backend keeps the generation of its row, too. Flows refer to rows of Service ports as these are, and so
//! one that is released may have to wait until no flow does.

use std::{fmt, ops::Range, time::Duration};

use proxy_common::{backend::BackendId, frontend::ServiceIndex, map_names, service::BackendSet};

use super::allocator::Allocator;
use crate::dataplane::{Referred, Rows};

/// The flag that says how many backends there may be, and so how many slots.
const ENDPOINTS: &str = "--max-endpoints";

/// A table has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for {count} more in the table of {table}: {flag} makes it larger{}", Kept(*kept))]
pub struct Exhausted {
    /// Which table, in words.
    pub table: &'static str,
    /// What its map is called, without the family's ending.
    pub map: &'static str,
    /// The flag that says how large it is.
    pub flag: &'static str,
    /// How many adjacent rows were wanted.
    pub count: u32,
    /// How many rows are nobody's, but kept as long as flows may refer to them.
    pub kept: u32,
}

impl Exhausted {
    /// There are not so many slots together.
    pub(super) const fn slots(count: u32) -> Self {
        Self { table: "slots", map: map_names::SLOTS, flag: ENDPOINTS, count, kept: 0 }
    }
}

/// Rows that are kept, in words.
struct Kept(u32);

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            kept => write!(f, "; {kept} rows are kept for flows of Services that have gone"),
        }
    }
}

/// The rows of the tables of a family. Every method takes the present time, which never goes
/// back, on the same clock.
#[derive(Debug)]
pub(super) struct Ids {
    services: Allocator,
    slots: Allocator,
    backends: Allocator,
    /// The last generation of each backend row that was ever given out.
    generations: Vec<u32>,
    /// Whether there was no row for a Service port since a walk was asked for.
    lacks_service: bool,
}

impl Ids {
    pub(super) fn new(capacity: Rows) -> Self {
        let from = |first: u32, count| Allocator::new(first..first + count);
        Self {
            services: from(ServiceIndex::FIRST.0, capacity.services),
            slots: from(0, capacity.slots),
            backends: from(BackendId::FIRST.0, capacity.backends),
            generations: Vec::new(),
            lacks_service: false,
        }
    }

    /// Frees the row of a Service port only when [`walked`](Self::walked) finds no flow that refers to it.
    pub(super) const fn wait_for_walks(&mut self) {
        self.services.wait_for_walks();
    }

    /// A walk through all flows has begun at this time, and found that they refer to these rows. Says whether it
    /// has made room.
    pub(super) fn walked(&mut self, began: Duration, referred: &Referred) -> bool {
        self.services.walked(began, |row| referred.has(ServiceIndex(row)))
    }

    /// From when on a walk may make room for a Service port that has found none, if nobody has been asked for it.
    pub(super) fn next_walk(&self) -> Option<Duration> {
        self.services.next_walk().filter(|_| self.lacks_service)
    }

    /// A walk has been asked for.
    pub(super) const fn asked_for_walk(&mut self) {
        self.lacks_service = false;
    }

    /// Takes the row of a Service port that somebody has given out; says whether it was free.
    #[must_use]
    pub(super) fn adopt_service(&mut self, index: ServiceIndex) -> bool {
        self.services.reserve(&(index.0..index.0 + 1))
    }

    /// Takes the slots of a set that somebody has published; says whether they were free.
    #[must_use]
    pub(super) fn adopt_slots(&mut self, set: BackendSet) -> bool {
        set.count() == 0 || self.slots.reserve(&(set.start()..set.start() + set.count()))
    }

    /// Takes a backend's row that somebody has given out, and no other has been found to have.
    pub(super) fn adopt_backend(&mut self, id: BackendId) {
        let _: bool = self.backends.reserve(&(id.0..id.0 + 1));
    }

    /// A backend's row has had this generation.
    pub(super) fn found_generation(&mut self, id: BackendId, generation: u32) {
        *self.generation_mut(id) = generation;
    }

    /// Whether no set has a slot.
    pub(super) fn is_free_slot(&self, slot: u32) -> bool {
        self.slots.is_free(slot)
    }

    /// Lets slots rest that nobody has any more.
    pub(super) fn rest_slots(&mut self, slots: Range<u32>, now: Duration) {
        self.slots.rest(slots, now);
    }

    /// Lets rows of backends rest that nobody has any more.
    pub(super) fn rest_backends(&mut self, ids: Range<u32>, now: Duration) {
        self.backends.rest(ids, now);
    }

    /// Lets rows of Service ports rest that nobody has any more.
    pub(super) fn rest_services(&mut self, indices: Range<u32>, now: Duration) {
        self.services.rest(indices, now);
    }

    pub(super) fn take_service(&mut self, now: Duration) -> Result<ServiceIndex, Exhausted> {
        let index = self.services.allocate(1, now);
        self.lacks_service |= index.is_none();
        index.map(ServiceIndex).ok_or_else(|| Exhausted {
            table: "Service ports",
            map: map_names::SERVICES,
            flag: "--max-services",
            count: 1,
            kept: self.services.kept(),
        })
    }

    pub(super) fn release_service(&mut self, index: ServiceIndex, now: Duration) {
        self.services.release(index.0..index.0 + 1, now);
    }

    /// A row for a backend, and a generation that it has never had.
    pub(super) fn take_backend(&mut self, now: Duration) -> Result<(BackendId, u32), Exhausted> {
        let (table, map) = ("backends", map_names::BACKENDS);
        let full = Exhausted { table, map, flag: ENDPOINTS, count: 1, kept: 0 };
        let id = BackendId(self.backends.allocate(1, now).ok_or(full)?);
        Ok((id, self.raise_generation(id)))
    }

    /// The next generation of a backend's row.
    pub(super) fn raise_generation(&mut self, id: BackendId) -> u32 {
        let generation = self.generation_mut(id);
        *generation += 1;
        *generation
    }

    fn generation_mut(&mut self, id: BackendId) -> &mut u32 {
        let at = id.0 as usize;
        if self.generations.len() <= at {
            self.generations.resize(at + 1, 0);
        }
        &mut self.generations[at]
    }

    pub(super) fn release_backend(&mut self, id: BackendId, now: Duration) {
        self.backends.release(id.0..id.0 + 1, now);
    }

    /// A range of slots for `count` backends (more than none).
    pub(super) fn take_slots(
        &mut self,
        count: u32,
        now: Duration,
    ) -> Result<BackendSet, Exhausted> {
        let start = self.slots.allocate(count, now).ok_or(Exhausted::slots(count))?;
        Ok(BackendSet::new(start, count))
    }

    /// How many slots there are together.
    pub(super) fn longest_slots(&mut self, now: Duration) -> u32 {
        self.slots.longest(now)
    }

    /// Takes back slots, if there are any.
    pub(super) fn release_slots(&mut self, slots: Range<u32>, now: Duration) {
        if !slots.is_empty() {
            self.slots.release(slots, now);
        }
    }

    /// How many rows are given out, without those that rest.
    pub(super) const fn in_use(&self) -> Rows {
        Rows {
            services: self.services.in_use(),
            slots: self.slots.in_use(),
            backends: self.backends.in_use(),
        }
    }
}
