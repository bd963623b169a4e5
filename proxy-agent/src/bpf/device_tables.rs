// SPDX-License-Identifier: Apache-2.0
//! What the programs know of the devices that they run on.

use std::path::Path;

use proxy_common::{
    Family, V4, V6,
    device::Device,
    map_names::{self, family_ending},
};

use super::{Error, table::Table};
use crate::devices::{HostAddresses, WorkloadDevice};

/// The tables of devices: one of both families, and one per family.
#[derive(Debug)]
pub struct DeviceTables {
    devices: Table<u32, Device>,
    v4: Table<u32, <V4 as Family>::Addr>,
    v6: Table<u32, <V6 as Family>::Addr>,
}

impl DeviceTables {
    /// Opens the tables that are pinned in a directory.
    ///
    /// # Errors
    ///
    /// If one is not there or cannot be opened.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        Ok(Self {
            devices: Table::open(pins, map_names::DEVICES)?,
            v4: Table::open(pins, &host_addresses::<V4>())?,
            v6: Table::open(pins, &host_addresses::<V6>())?,
        })
    }

    /// Writes what the programs must know of a device.
    ///
    /// # Errors
    ///
    /// If a map cannot be written.
    pub fn put(&mut self, device: &WorkloadDevice) -> Result<(), Error> {
        self.devices.put(device.index, device.device)?;
        put_address::<V4>(&mut self.v4, device.index, device.host_addresses)?;
        put_address::<V6>(&mut self.v6, device.index, device.host_addresses)
    }

    /// Forgets a device.
    ///
    /// # Errors
    ///
    /// If a map cannot be written.
    pub fn remove(&mut self, index: u32) -> Result<(), Error> {
        self.devices.remove(&index)?;
        self.v4.remove(&index)?;
        self.v6.remove(&index)
    }
}

fn host_addresses<F: Family>() -> String {
    format!("{}{}", map_names::HOST_ADDRESSES, family_ending::<F>())
}

fn put_address<F: Family>(
    table: &mut Table<u32, F::Addr>,
    index: u32,
    addresses: HostAddresses,
) -> Result<(), Error> {
    match addresses.of::<F>() {
        Some(address) => table.put(index, address),
        None => table.remove(&index),
    }
}
