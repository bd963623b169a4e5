// SPDX-License-Identifier: Apache-2.0
//! The tables that say which clients count as the node's own pods.

use std::path::Path;

use aya::maps::Map;
use ipnet::IpNet;
use proxy_common::{
    Family, V4, V6,
    locality::Locality,
    map_names::{self, family_ending},
};

use super::{Error, mapped::MappedArray, object::pinned};
use crate::local_clients::Detection;

/// One row in each family.
#[derive(Debug)]
pub struct LocalityTables {
    v4: MappedArray<Locality<V4>>,
    v6: MappedArray<Locality<V6>>,
}

impl LocalityTables {
    /// Opens the tables that are pinned in a directory.
    ///
    /// # Errors
    ///
    /// If one is not there or cannot be opened.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        Ok(Self { v4: open(pins)?, v6: open(pins)? })
    }

    /// Says how the node's own pods are told from other clients, on a Node whose pods have these
    /// ranges. A program that reads a row meanwhile may take one client for another kind, once.
    ///
    /// # Errors
    ///
    /// If a table has no row.
    pub fn put(&mut self, detection: &Detection, pod_cidrs: &[IpNet]) -> Result<(), Error> {
        self.v4.put(0, detection.row(pod_cidrs))?;
        self.v6.put(0, detection.row(pod_cidrs))
    }
}

fn open<F: Family>(pins: &Path) -> Result<MappedArray<Locality<F>>, Error> {
    let name = format!("{}{}", map_names::LOCALITY, family_ending::<F>());
    match pinned(pins, &name)? {
        Map::Array(data) => MappedArray::new(&name, data),
        _ => Err(Error::NoMap(name)),
    }
}
