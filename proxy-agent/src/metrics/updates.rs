// SPDX-License-Identifier: Apache-2.0
//! What the task tells that brings objects into the tables.

use prometheus::Error;

use super::{Entries, Page, Services, Syncs, Watches};

/// All of it.
#[derive(Clone, Debug)]
pub struct Updates {
    pub(crate) syncs: Syncs,
    pub(crate) services: Services,
    pub(crate) entries: Entries,
    pub(crate) watches: Watches,
}

impl Updates {
    /// Has it on a page.
    ///
    /// # Errors
    ///
    /// If it is there.
    pub fn new(page: &Page) -> Result<Self, Error> {
        Ok(Self {
            syncs: Syncs::new(page)?,
            services: Services::new(page)?,
            entries: Entries::new(page)?,
            watches: Watches::new(page)?,
        })
    }

    /// Where sources tell how it is with them.
    #[must_use]
    pub fn watches(&self) -> Watches {
        self.watches.clone()
    }

    /// Where those who walk through flows tell how many there are.
    #[must_use]
    pub fn entries(&self) -> Entries {
        self.entries.clone()
    }
}
