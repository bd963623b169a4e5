// SPDX-License-Identifier: Apache-2.0
//! What is counted of Services.

use std::{collections::BTreeMap, path::Path};

use aya::Pod;
use proxy_common::{
    Family,
    frontend::ServiceIndex,
    map_names,
    name::{ServiceName, text},
    traffic::Traffic,
};

use super::{Error, raw_map::RawMap, tables::of_family, traffic::TrafficTable};

/// A Service by its namespace and name.
pub type Namespaced = (String, String);

/// The Services of a family, and the counters of their ports.
#[derive(Debug)]
pub struct CountedServices {
    names: RawMap,
    traffic: TrafficTable,
}

impl CountedServices {
    /// Opens the tables that are pinned in a directory.
    ///
    /// # Errors
    ///
    /// If one is not there or cannot be opened.
    pub fn open<F: Family>(pins: &Path) -> Result<Self, Error> {
        Ok(Self {
            names: RawMap::open(pins, &of_family::<F>(map_names::NAMES))?,
            traffic: TrafficTable::open::<F>(pins)?,
        })
    }

    /// All Services, with the rows of their ports, the lowest first.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn all(&self) -> Result<BTreeMap<Namespaced, Vec<ServiceIndex>>, Error> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        self.names.for_each(|key, value| {
            let (Some(index), Some(name)) = (read::<ServiceIndex>(key), read::<ServiceName>(value))
            else {
                return Ok(());
            };
            let word = |label| text(label).unwrap_or("?").to_owned();
            all.entry((word(&name.namespace), word(&name.name))).or_default().push(index);
            Ok(())
        })?;
        for rows in all.values_mut() {
            rows.sort_unstable();
        }
        Ok(all)
    }

    /// What has been counted of the ports in these rows; nothing if one of them is not counted.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn traffic(&self, rows: &[ServiceIndex]) -> Result<Option<Traffic>, Error> {
        let mut sum = Traffic::default();
        for row in rows {
            let Some(traffic) = self.traffic.of(*row)? else { return Ok(None) };
            sum = sum.and(&traffic);
        }
        Ok(Some(sum))
    }
}

/// A key or a value from its bytes.
fn read<T: Pod>(bytes: &[u8]) -> Option<T> {
    // SAFETY: so many bytes are there, and any are one of these.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
