// SPDX-License-Identifier: Apache-2.0
//! The table of next hops to whom drivers may send.

use std::path::Path;

use aya::maps::Map;
use proxy_common::{
    clock::{PER_SECOND, Tick},
    device::{Device, DeviceTraits},
    map_names,
    ways::Hop,
};

use super::{Error, clock, mapped::MappedArray, object::pinned, table::Table};

/// For both families: a next hop is a MAC address.
#[derive(Debug)]
pub struct HopsTable {
    hops: MappedArray<Hop>,
    devices: Table<u32, Device>,
}

impl HopsTable {
    /// Opens the table that is pinned in a directory.
    ///
    /// # Errors
    ///
    /// If it is not there or cannot be opened.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        let Map::Array(data) = pinned(pins, map_names::HOPS)? else {
            return Err(Error::NoMap(map_names::HOPS.to_owned()));
        };
        let hops = MappedArray::new(map_names::HOPS, data)?;
        Ok(Self { hops, devices: Table::open(pins, map_names::DEVICES)? })
    }

    /// Has drivers send to whom this MAC address leads, by the device with this interface index, for two seconds from now
    /// on. Nothing is done if no driver can send by that.
    ///
    /// # Errors
    ///
    /// If the tables cannot be read or written.
    pub fn trust(&mut self, device: u32, mac: [u8; 6]) -> Result<(), Error> {
        let device = self.devices.get(&device)?;
        let Some(device) = device.filter(|device| device.traits.has(DeviceTraits::XDP)) else {
            return Ok(());
        };
        let hop = Hop {
            device: device.wire,
            used: Tick(clock::now().0.wrapping_add(PER_SECOND)),
            mac,
            own: device.mac,
            traits: device.traits,
            reserved: 0,
        };
        self.hops.put(Hop::row(hop.device, &mac), hop)
    }
}
