// SPDX-License-Identifier: Apache-2.0
//! What the programs know of the devices that they run on.

use std::path::Path;

use aya::Pod;
use proxy_common::{
    Family, V4, V6,
    device::{Device, Wire},
    map_names::{self, family_ending},
};

use super::{Error, table::Table};

/// The tables of devices: one of both families, and one per family.
#[derive(Debug)]
pub struct DeviceTables {
    devices: Table<u32, Device>,
    wires: Table<Wire, u32>,
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
            wires: Table::open(pins, map_names::WIRES)?,
            v4: Table::open(pins, &host_addresses::<V4>())?,
            v6: Table::open(pins, &host_addresses::<V6>())?,
        })
    }

    /// Writes what the programs must know of the device with this interface index: what it is,
    /// and the host's addresses towards the pods behind it.
    ///
    /// # Errors
    ///
    /// If a map cannot be written.
    pub fn put(
        &mut self,
        index: u32,
        device: Device,
        (v4, v6): (Option<<V4 as Family>::Addr>, Option<<V6 as Family>::Addr>),
    ) -> Result<(), Error> {
        self.devices.put(index, device)?;
        put_or_remove(&mut self.v4, index, v4)?;
        put_or_remove(&mut self.v6, index, v6)
    }

    /// Says which device of the stack frames are for that come by a wire.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn put_wire(&mut self, wire: Wire, device: u32) -> Result<(), Error> {
        self.wires.put(wire, device)
    }

    /// Forgets a wire.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn remove_wire(&mut self, wire: Wire) -> Result<(), Error> {
        self.wires.remove(&wire)
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

    /// Forgets all devices and wires but these, of which the latter are told with the devices that they lead to.
    ///
    /// # Errors
    ///
    /// If a map cannot be read or written.
    pub fn retain(
        &mut self,
        has_device: impl Fn(u32) -> bool,
        has_wire: impl Fn(Wire, u32) -> bool,
    ) -> Result<(), Error> {
        self.wires.retain(|wire, device| has_wire(*wire, *device))?;
        self.devices.retain(|device, _| has_device(*device))?;
        self.v4.retain(|device, _| has_device(*device))?;
        self.v6.retain(|device, _| has_device(*device))
    }
}

fn host_addresses<F: Family>() -> String {
    format!("{}{}", map_names::HOST_ADDRESSES, family_ending::<F>())
}

fn put_or_remove<A: Pod>(
    table: &mut Table<u32, A>,
    index: u32,
    address: Option<A>,
) -> Result<(), Error> {
    match address {
        Some(address) => table.put(index, address),
        None => table.remove(&index),
    }
}
