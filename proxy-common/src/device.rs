// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the programs must know of the device that they run on.

use crate::pod;

/// The most devices of one node.
pub const MAX_DEVICES: u32 = 1 << 14;

/// The most wires of one node.
pub const MAX_WIRES: u32 = 1 << 12;

/// How many bits of a [wire's number](Wire::number) are the interface index.
const INDEX_BITS: u32 = 20;

/// Where frames come by or leave, as a driver sees it: its device, and the VLAN whose tag the frame has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wire {
    /// The device whose driver it is, by interface index, which is below 2^20: a leg, where the device is a bond.
    pub device: u32,
    /// The VLAN (IEEE 802.1Q); zero without a tag.
    pub vlan: u16,
    /// Always zero.
    reserved: u16,
}

impl Wire {
    /// That of a device's frames with this VLAN's tag, or none.
    #[must_use]
    #[inline(always)]
    pub const fn new(device: u32, vlan: u16) -> Self {
        Self { device, vlan, reserved: 0 }
    }

    /// The same in one word. Without a tag it is the device's interface index.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.device | (self.vlan as u32) << INDEX_BITS
    }

    /// The wire with this number.
    #[must_use]
    #[inline(always)]
    pub const fn of_number(number: u32) -> Self {
        Self::new(number & ((1 << INDEX_BITS) - 1), (number >> INDEX_BITS) as u16)
    }

    /// Whether it has a number of its own.
    #[must_use]
    pub const fn has_number(self) -> bool {
        self.device >> INDEX_BITS == 0 && self.vlan < 1 << (u32::BITS - INDEX_BITS)
    }
}

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
    /// By which wire its frames leave, where it has [`DeviceTraits::XDP`]; see [`Wire::number`].
    pub wire: u32,
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
    /// A program in its driver sees frames before the others do, and other drivers may send by it.
    pub const XDP: Self = Self(1 << 3);
    /// That program runs behind the driver, which does not know of it: no other driver can send by it.
    pub const XDP_GENERIC: Self = Self(1 << 4);
    /// That driver sends only what has come by itself.
    pub const XDP_OWN_FRAMES: Self = Self(1 << 5);
    /// For others, that driver sends only frames that lie in one buffer.
    pub const XDP_ONE_BUFFER: Self = Self(1 << 6);

    /// Whether all bits of `other` are set.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits, and those of `other`.
    #[must_use]
    #[inline(always)]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// `other` if that is so, else no bits.
    #[must_use]
    pub const fn when(is_so: bool, other: Self) -> Self {
        Self(if is_so { other.0 } else { 0 })
    }
}

impl Device {
    /// A port of the bridge with this index and MAC address.
    #[must_use]
    pub const fn bridge_port(bridge: u32, bridge_mac: [u8; 6]) -> Self {
        Self { bridge, mac: bridge_mac, traits: DeviceTraits(0), wire: 0 }
    }

    /// An uplink or a tunnel with this MAC address.
    #[must_use]
    pub const fn uplink(mac: [u8; 6]) -> Self {
        Self { bridge: 0, mac, traits: DeviceTraits::OUTSIDE, wire: 0 }
    }

    /// A device that frames are routed from.
    #[must_use]
    pub const fn routed() -> Self {
        Self { bridge: 0, mac: [0; 6], traits: DeviceTraits(0), wire: 0 }
    }

    /// This device, with a program in the driver by whose wire its frames come and leave, or behind that driver.
    #[must_use]
    pub const fn with_xdp(mut self, wire: Wire) -> Self {
        self.wire = wire.number();
        self.with(DeviceTraits::XDP)
    }

    /// This device, for these things, too.
    #[must_use]
    pub const fn with(mut self, traits: DeviceTraits) -> Self {
        self.traits = self.traits.with(traits);
        self
    }

    /// This device, as an end of a pair.
    #[must_use]
    pub const fn as_pair(self) -> Self {
        self.with(DeviceTraits::PAIR)
    }

    /// This device, with clients that count as the node's own pods or not.
    #[must_use]
    pub const fn with_local_clients(mut self, are_local: bool) -> Self {
        let local = DeviceTraits::LOCAL_CLIENTS.0;
        self.traits.0 = if are_local { self.traits.0 | local } else { self.traits.0 & !local };
        self
    }
}

pod!(Device, DeviceTraits, Wire);

const _: () = assert!(size_of::<Device>() == 16 && size_of::<Wire>() == 8);

#[cfg(test)]
mod tests {
    use super::Wire;

    #[test]
    fn a_wire_is_known_by_its_number() {
        for wire in [Wire::new(7, 0), Wire::new(7, 50), Wire::new((1 << 20) - 1, 4095)] {
            assert!(wire.has_number());
            assert_eq!(Wire::of_number(wire.number()), wire);
        }
        assert_eq!(Wire::new(7, 0).number(), 7);
        assert!(!Wire::new(1 << 20, 0).has_number() && !Wire::new(1, 4096).has_number());
    }
}
