// SPDX-License-Identifier: Apache-2.0
//! How much the tables of a family hold that are made of rows.

use proxy_common::{
    backend::{BackendId, MAX_BACKENDS},
    frontend::ServiceIndex,
    service::{MAX_SERVICES, MAX_SLOTS},
};

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
    /// What the programs' own tables have, without the reserved rows.
    pub const CAPACITY: Self = Self::of_tables(MAX_SERVICES, MAX_SLOTS, MAX_BACKENDS);

    /// What tables with so many entries have, without the reserved rows.
    #[must_use]
    pub const fn of_tables(services: u32, slots: u32, backends: u32) -> Self {
        Self {
            services: services - ServiceIndex::FIRST.0,
            slots,
            backends: backends - BackendId::FIRST.0,
        }
    }
}
