// SPDX-License-Identifier: Apache-2.0
//! The rows of all tables of a family.

use std::time::Duration;

use proxy_common::{
    backend::{BackendId, MAX_BACKENDS},
    frontend::ServiceIndex,
    service::{BackendSet, MAX_SERVICES, MAX_SLOTS},
};

use super::allocator::Allocator;

/// A table has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for {count} more in the table of {table}")]
pub struct Exhausted {
    /// Which table.
    pub table: &'static str,
    /// How many adjacent rows were wanted.
    pub count: u32,
}

/// A number of rows in each table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Service ports.
    pub services: u32,
    /// Slots.
    pub slots: u32,
    /// Backends.
    pub backends: u32,
}

impl Rows {
    /// What the tables have, without the reserved rows.
    pub const CAPACITY: Self = Self {
        services: MAX_SERVICES - ServiceIndex::FIRST.0,
        slots: MAX_SLOTS,
        backends: MAX_BACKENDS - BackendId::FIRST.0,
    };
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
}

impl Ids {
    pub(super) fn new(capacity: Rows) -> Self {
        let from = |first: u32, count| Allocator::new(first..first + count);
        Self {
            services: from(ServiceIndex::FIRST.0, capacity.services),
            slots: from(0, capacity.slots),
            backends: from(BackendId::FIRST.0, capacity.backends),
            generations: Vec::new(),
        }
    }

    pub(super) fn take_service(&mut self, now: Duration) -> Result<ServiceIndex, Exhausted> {
        let index = self.services.allocate(1, now);
        index.map(ServiceIndex).ok_or(Exhausted { table: "Service ports", count: 1 })
    }

    pub(super) fn release_service(&mut self, index: ServiceIndex, now: Duration) {
        self.services.release(index.0..index.0 + 1, now);
    }

    /// A row for a backend, and a generation that it has never had.
    pub(super) fn take_backend(&mut self, now: Duration) -> Result<(BackendId, u32), Exhausted> {
        let id = self.backends.allocate(1, now).ok_or(Exhausted { table: "backends", count: 1 })?;
        let id = BackendId(id);
        Ok((id, self.raise_generation(id)))
    }

    /// The next generation of a backend's row.
    pub(super) fn raise_generation(&mut self, id: BackendId) -> u32 {
        let at = id.0 as usize;
        if self.generations.len() <= at {
            self.generations.resize(at + 1, 0);
        }
        self.generations[at] += 1;
        self.generations[at]
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
        let start = self.slots.allocate(count, now).ok_or(Exhausted { table: "slots", count })?;
        Ok(BackendSet::new(start, count))
    }

    /// Takes back the slots of a set, if it has any.
    pub(super) fn release_slots(&mut self, set: BackendSet, now: Duration) {
        if set.count() > 0 {
            self.slots.release(set.start()..set.start() + set.count(), now);
        }
    }

    /// How many rows are given out, without those that rest.
    #[cfg(test)]
    pub(super) const fn in_use(&self) -> Rows {
        Rows {
            services: self.services.in_use(),
            slots: self.slots.in_use(),
            backends: self.backends.in_use(),
        }
    }
}
