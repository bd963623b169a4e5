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
    /// What it is for.
    pub traits: DeviceTraits,
}

/// What a device is for, as bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceTraits(u16);

impl DeviceTraits {
    /// Clients behind it count as the node's own pods, where devices tell (see
    /// [`Locality`](crate::locality::Locality)).
    pub const LOCAL_CLIENTS: Self = Self(1);
    /// It leads out of the node: an uplink or a tunnel.
    pub const OUTSIDE: Self = Self(1 << 1);
    /// It is one end of a pair, and the other end, with an Ethernet header, is what is behind it; and it is
    /// no port of a bridge: the host's stack is all that is between two of these.
    pub const PAIR: Self = Self(1 << 2);

    /// Whether all bits of `other` are set.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Device {
    /// A port of the bridge with this index and MAC address.
    #[must_use]
    pub const fn bridge_port(bridge: u32, bridge_mac: [u8; 6]) -> Self {
        Self { bridge, mac: bridge_mac, traits: DeviceTraits(0) }
    }

    /// An uplink or a tunnel with this MAC address.
    #[must_use]
    pub const fn uplink(mac: [u8; 6]) -> Self {
        Self { bridge: 0, mac, traits: DeviceTraits::OUTSIDE }
    }

    /// A device that frames are routed from.
    #[must_use]
    pub const fn routed() -> Self {
        Self { bridge: 0, mac: [0; 6], traits: DeviceTraits(0) }
    }

    /// This device, as an end of a pair.
    #[must_use]
    pub const fn as_pair(mut self) -> Self {
        self.traits.0 |= DeviceTraits::PAIR.0;
        self
    }

    /// This device, with clients that count as the node's own pods or not.
    #[must_use]
    pub const fn with_local_clients(mut self, are_local: bool) -> Self {
        let local = DeviceTraits::LOCAL_CLIENTS.0;
        self.traits.0 = if are_local { self.traits.0 | local } else { self.traits.0 & !local };
        self
    }
}

pod!(Device, DeviceTraits);

const _: () = assert!(size_of::<Device>() == 12);
