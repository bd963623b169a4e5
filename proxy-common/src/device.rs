// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the programs must know of the device that they run on.

use crate::pod;

/// The most devices of one node.
pub const MAX_DEVICES: u32 = 1 << 14;

/// A device with programs, by its interface index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The bridge that the device is a port of, by interface index; zero if of none.
    pub bridge: u32,
    /// The MAC address by which the node is known there. On a bridge port that is the bridge's: a
    /// frame for the node goes to it. On an uplink or a tunnel it is the device's own: a frame of
    /// the node's comes from it.
    pub mac: [u8; 6],
    /// Always zero.
    reserved: u16,
}

impl Device {
    /// A port of the bridge with this index and MAC address.
    #[must_use]
    pub const fn bridge_port(bridge: u32, bridge_mac: [u8; 6]) -> Self {
        Self { bridge, mac: bridge_mac, reserved: 0 }
    }

    /// An uplink or a tunnel with this MAC address.
    #[must_use]
    pub const fn uplink(mac: [u8; 6]) -> Self {
        Self { bridge: 0, mac, reserved: 0 }
    }

    /// A device that frames are routed from.
    #[must_use]
    pub const fn routed() -> Self {
        Self { bridge: 0, mac: [0; 6], reserved: 0 }
    }
}

pod!(Device);

const _: () = assert!(size_of::<Device>() == 12);
