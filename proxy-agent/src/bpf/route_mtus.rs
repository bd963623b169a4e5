// SPDX-License-Identifier: Apache-2.0
//! The tables of routes that take smaller packets than the devices that they lead by.

use std::path::Path;

use aya::maps::{LpmTrie, MapData, MapError, lpm_trie::Key};
use ipnet::IpNet;
use proxy_common::{
    Address as _, Family, V4, V6,
    map_names::{self, family_ending},
    route_mtu::RouteMtu,
};

use super::{Error, full::map_error, object::pinned};

/// One table in each family.
#[derive(Debug)]
pub struct RouteMtus {
    v4: LpmTrie<MapData, <V4 as Family>::Addr, RouteMtu>,
    v6: LpmTrie<MapData, <V6 as Family>::Addr, RouteMtu>,
}

impl RouteMtus {
    /// Opens the tables that are pinned in a directory.
    ///
    /// # Errors
    ///
    /// If one is not there or cannot be opened.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        Ok(Self { v4: open::<V4>(pins)?, v6: open::<V6>(pins)? })
    }

    /// What the tables say, as another agent may have left it, in bytes.
    ///
    /// # Errors
    ///
    /// If a table cannot be read.
    pub fn said(&self) -> Result<Vec<(IpNet, u32)>, Error> {
        Ok([said::<V4>(&self.v4)?, said::<V6>(&self.v6)?].concat())
    }

    /// Says what the largest packet is that a route to a destination takes, in bytes; nothing if all take what their
    /// devices take.
    ///
    /// # Errors
    ///
    /// If the table cannot be written, as when it is full.
    pub fn put(&mut self, destination: IpNet, mtu: Option<u32>) -> Result<(), Error> {
        match destination {
            IpNet::V4(_) => put::<V4>(&mut self.v4, destination, mtu),
            IpNet::V6(_) => put::<V6>(&mut self.v6, destination, mtu),
        }
    }
}

fn name<F: Family>() -> String {
    format!("{}{}", map_names::ROUTE_MTUS, family_ending::<F>())
}

fn open<F: Family>(pins: &Path) -> Result<LpmTrie<MapData, F::Addr, RouteMtu>, Error> {
    let name = name::<F>();
    pinned(pins, &name)?.try_into().map_err(|error| Error::Map(name, error))
}

fn said<F: Family>(
    table: &LpmTrie<MapData, F::Addr, RouteMtu>,
) -> Result<Vec<(IpNet, u32)>, Error> {
    let entries = table.iter().map(|entry| {
        let (key, mtu) = entry.map_err(|error| Error::Map(name::<F>(), error))?;
        let length = u8::try_from(key.prefix_len()).unwrap_or(u8::MAX);
        // The kernel has no longer ones than addresses are.
        Ok(IpNet::new(key.data().into(), length).ok().map(|destination| (destination, mtu.0)))
    });
    entries.filter_map(Result::transpose).collect()
}

fn put<F: Family>(
    table: &mut LpmTrie<MapData, F::Addr, RouteMtu>,
    destination: IpNet,
    mtu: Option<u32>,
) -> Result<(), Error> {
    let Some(address) = F::Addr::from_ip(destination.network()) else { return Ok(()) };
    let key = Key::new(destination.prefix_len().into(), address);
    let written = match mtu {
        Some(mtu) => table.insert(&key, RouteMtu(mtu), 0),
        None => match table.remove(&key) {
            Err(MapError::KeyNotFound) => Ok(()),
            result => result,
        },
    };
    written.map_err(|error| map_error(name::<F>(), error))
}
