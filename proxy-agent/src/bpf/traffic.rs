// SPDX-License-Identifier: Apache-2.0
//! What is counted of Service ports.

use std::{fmt, path::Path};

use aya::{
    maps::{MapData, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use proxy_common::{Family, frontend::ServiceIndex, map_names, traffic::Traffic};

use super::{Error, object::pinned, tables::of_family};

/// How many processors the kernel keeps counters for.
///
/// # Errors
///
/// If the kernel does not say.
pub fn processors() -> Result<usize, Error> {
    nr_cpus().map_err(|(_, error)| Error::Processors(error))
}

/// The counters of a family's Service ports.
pub struct TrafficTable {
    name: String,
    map: PerCpuArray<MapData, Traffic>,
    processors: usize,
}

impl fmt::Debug for TrafficTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrafficTable").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TrafficTable {
    /// Opens the table that is pinned in a directory.
    ///
    /// # Errors
    ///
    /// If it is not there or cannot be opened.
    pub fn open<F: Family>(pins: &Path) -> Result<Self, Error> {
        let name = of_family::<F>(map_names::TRAFFIC);
        let map = pinned(pins, &name)?.try_into();
        let map = map.map_err(|error| Error::Map(name.clone(), error))?;
        Ok(Self { name, map, processors: processors()? })
    }

    /// What all processors have counted of a Service port; nothing if it is beyond those that are counted.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn of(&self, index: ServiceIndex) -> Result<Option<Traffic>, Error> {
        if index.0 >= self.map.len() {
            return Ok(None);
        }
        let values = self.map.get(&index.0, 0);
        let values = values.map_err(|error| Error::Map(self.name.clone(), error))?;
        Ok(Some(values.iter().fold(Traffic::default(), |sum, value| sum.and(value))))
    }

    /// Begins to count anew, for another Service port than before.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub(super) fn begin(&mut self, index: ServiceIndex) -> Result<(), Error> {
        if index.0 >= self.map.len() {
            return Ok(());
        }
        let none = PerCpuValues::try_from(vec![Traffic::default(); self.processors]);
        let none = none.map_err(Error::Processors)?;
        self.map.set(index.0, none, 0).map_err(|error| Error::Map(self.name.clone(), error))
    }
}
