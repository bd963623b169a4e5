// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A transport port that keeps network byte order.

use core::fmt;

use crate::pod;

/// A TCP, UDP or SCTP port in network order, as it stands in a packet.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(u16);

impl Port {
    /// No port: what stands in keys that cover all ports of an address.
    pub const ANY: Self = Self(0);

    /// A port from its number.
    #[must_use]
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// A port from the two bytes of a packet, read as they lie in memory.
    #[must_use]
    #[inline(always)]
    pub const fn from_wire(raw: u16) -> Self {
        Self(raw)
    }

    /// The two bytes as they go into a packet.
    #[must_use]
    #[inline(always)]
    pub const fn to_wire(self) -> u16 {
        self.0
    }

    /// The port's number.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be(self.0)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.number(), f)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.number(), f)
    }
}

pod!(Port);

#[cfg(test)]
mod tests {
    use super::Port;

    #[test]
    fn a_port_lies_in_memory_as_on_the_wire() {
        assert_eq!(Port::new(80).to_wire().to_ne_bytes(), [0, 80]);
        assert_eq!(Port::from_wire(u16::from_ne_bytes([0x1f, 0x90])).number(), 8080);
    }
}
