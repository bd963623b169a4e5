// SPDX-License-Identifier: Apache-2.0
//! What of Services is not in the tables.

use proxy_common::{Family, shortfall::Shortfall};

use super::{super::Error, Tables};

impl<F: Family> Tables<F> {
    /// Says what of a Service is missing.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn put_shortfall(&mut self, row: u32, shortfall: Shortfall) -> Result<(), Error> {
        self.shortfalls.put(row, shortfall)
    }

    /// Says it no more.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn remove_shortfall(&mut self, row: u32) -> Result<(), Error> {
        self.shortfalls.remove(&row)
    }

    /// What the agent that was here last has said, by row, in no order.
    pub fn shortfalls(&self) -> impl Iterator<Item = Result<(u32, Shortfall), Error>> + '_ {
        self.shortfalls.entries()
    }
}
