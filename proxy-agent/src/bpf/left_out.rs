// SPDX-License-Identifier: Apache-2.0
//! The network namespaces that are not served at sockets.

use std::path::Path;

use proxy_common::{map_names, socket};

use super::{Error, table::Table};

/// The table of network namespaces, by cookie, whose processes are not served at their sockets.
#[derive(Debug)]
pub struct LeftOut {
    table: Table<u64, socket::LeftOut>,
}

impl LeftOut {
    /// Opens the table that is pinned in a directory.
    ///
    /// # Errors
    ///
    /// If it is not there or cannot be opened.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        Ok(Self { table: Table::open(pins, map_names::LEFT_OUT)? })
    }

    /// Leaves a namespace out.
    ///
    /// # Errors
    ///
    /// If the table is full or cannot be written.
    pub fn add(&mut self, cookie: u64) -> Result<(), Error> {
        self.table.put(cookie, socket::LeftOut::YES)
    }

    /// Serves it again.
    ///
    /// # Errors
    ///
    /// If the table cannot be written.
    pub fn remove(&mut self, cookie: u64) -> Result<(), Error> {
        self.table.remove(&cookie)
    }

    /// The cookies of those that are left out, in their order.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn cookies(&self) -> Result<Vec<u64>, Error> {
        let cookies: Result<Vec<_>, _> =
            self.table.entries().map(|entry| entry.map(|(cookie, _)| cookie)).collect();
        cookies.map(|mut cookies| {
            cookies.sort_unstable();
            cookies
        })
    }
}
