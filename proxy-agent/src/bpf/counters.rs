// SPDX-License-Identifier: Apache-2.0
//! The programs' counters.

use std::path::Path;

use aya::maps::{MapData, PerCpuArray};
use proxy_common::{Family, counter::Reason, map_names};

use super::{Error, object::pinned};

/// How often the programs have come to a decision, over all processors.
pub struct Counters {
    map: PerCpuArray<MapData, u64>,
}

impl Counters {
    /// Opens the table that is pinned in a directory.
    ///
    /// # Errors
    ///
    /// If it is not there or cannot be opened.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        let map = pinned(pins, map_names::COUNTERS)?.try_into().map_err(error)?;
        Ok(Self { map })
    }

    /// The counter of a reason, since the table was made: it outlives agents.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn of<F: Family>(&self, reason: Reason) -> Result<u64, Error> {
        let counted = self.map.get(&reason.row::<F>(), 0).map_err(error)?;
        Ok(counted.iter().fold(0, |sum: u64, count| sum.wrapping_add(*count)))
    }
}

fn error(error: aya::maps::MapError) -> Error {
    Error::Map(map_names::COUNTERS.to_owned(), error)
}
