// SPDX-License-Identifier: Apache-2.0
//! The table by which programs are told that the node's ways have changed.

use std::path::Path;

use aya::maps::Map;
use proxy_common::{map_names, ways::WaysEpoch};

use super::{Error, mapped::MappedArray, object::pinned};

/// One row, for both families.
#[derive(Debug)]
pub struct WaysTable {
    table: MappedArray<WaysEpoch>,
}

impl WaysTable {
    /// Opens the table that is pinned in a directory.
    ///
    /// # Errors
    ///
    /// If it is not there or cannot be opened.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        let Map::Array(data) = pinned(pins, map_names::WAYS)? else {
            return Err(Error::NoMap(map_names::WAYS.to_owned()));
        };
        Ok(Self { table: MappedArray::new(map_names::WAYS, data)? })
    }

    /// Has the programs ask again by which ways packets go. Others may say the same on the same thread.
    ///
    /// # Errors
    ///
    /// If the table has no row.
    pub fn end_epoch(&mut self) -> Result<(), Error> {
        let WaysEpoch(former) = self.table.get(0)?;
        self.table.put(0, WaysEpoch(former.wrapping_add(1)))
    }
}
