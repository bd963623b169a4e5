// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fragments: what the first fragment of a packet says of the others.

use crate::{
    Family, Port, Protocol,
    clock::{Tick, seconds},
    flow::Hook,
    pod,
};

/// The most fragmented packets of one family that are remembered; the least recently used make
/// room for new ones.
pub const MAX_FRAGMENTED: u32 = 1 << 13;

/// Seconds that a packet's first fragment is remembered. Its other fragments follow within a round
/// trip; and where identifications have 16 bits they soon come round again.
pub const FRAGMENT_SECONDS: u32 = 5;

/// A fragmented packet, as all of its fragments name it (RFC 791 section 3.2, RFC 8200 section
/// 4.5), at a hook.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey<F: Family> {
    /// The source address.
    pub source: F::Addr,
    /// The destination address.
    pub destination: F::Addr,
    /// The identification, as it stands in the header.
    pub identification: u32,
    /// The protocol, which IPv4's later fragments name; [`Protocol::ANY`] for IPv6.
    pub protocol: Protocol,
    /// Where the fragments arrive.
    pub hook: Hook,
    /// Always zero.
    reserved: u16,
}

impl<F: Family> FragmentKey<F> {
    /// The key of the fragments with these values.
    #[must_use]
    #[inline(always)]
    pub const fn new(
        source: F::Addr,
        destination: F::Addr,
        identification: u32,
        protocol: Protocol,
        hook: Hook,
    ) -> Self {
        Self { source, destination, identification, protocol, hook, reserved: 0 }
    }
}

/// What the first fragment of a packet says of the others. One word, which is written and read
/// whole.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragmented(u64);

impl Fragmented {
    /// A packet whose first fragment arrived at `now` with this protocol and these ports.
    #[must_use]
    #[inline(always)]
    pub const fn new(
        protocol: Protocol,
        source_port: Port,
        destination_port: Port,
        now: Tick,
    ) -> Self {
        Self(
            (source_port.to_wire() as u64) << 48
                | (destination_port.to_wire() as u64) << 32
                | (protocol.number() as u64) << 16
                | (now.0 & 0xffff) as u64,
        )
    }

    /// The source port of the packet.
    #[must_use]
    #[inline(always)]
    pub const fn source_port(self) -> Port {
        Port::from_wire((self.0 >> 48) as u16)
    }

    /// The destination port of the packet.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "several numbers in one word")]
    pub const fn destination_port(self) -> Port {
        Port::from_wire((self.0 >> 32) as u16)
    }

    /// The transport protocol of the packet.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "several numbers in one word")]
    pub const fn protocol(self) -> Protocol {
        Protocol::new((self.0 >> 16) as u8)
    }

    /// Whether the first fragment arrived lately. Of its time only the lower half is kept, which
    /// comes round every 73 minutes.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "several numbers in one word")]
    pub const fn is_current(self, now: Tick) -> bool {
        let age = (now.0 as u16).wrapping_sub(self.0 as u16);
        age as u32 <= seconds(FRAGMENT_SECONDS)
    }
}

pod!(Fragmented);
pod!(generic FragmentKey);

const _: () = assert!(size_of::<FragmentKey<crate::V4>>() == 16);
const _: () = assert!(size_of::<FragmentKey<crate::V6>>() == 40);
const _: () = assert!(size_of::<Fragmented>() == 8);

#[cfg(test)]
mod tests {
    use super::{FRAGMENT_SECONDS, Fragmented};
    use crate::{
        Port, Protocol,
        clock::{Tick, seconds},
    };

    #[test]
    fn a_word_holds_it_all() {
        let now = Tick(0x0012_ffff);
        let fragmented = Fragmented::new(Protocol::UDP, Port::new(53), Port::new(65_535), now);
        assert_eq!(fragmented.protocol(), Protocol::UDP);
        assert_eq!(fragmented.source_port(), Port::new(53));
        assert_eq!(fragmented.destination_port(), Port::new(65_535));
    }

    #[test]
    fn it_is_forgotten_after_its_time() {
        let now = Tick(0x0012_ffff);
        let fragmented = Fragmented::new(Protocol::UDP, Port::new(1), Port::new(2), now);
        let limit = seconds(FRAGMENT_SECONDS);
        assert!(fragmented.is_current(now));
        assert!(fragmented.is_current(Tick(now.0 + limit)));
        assert!(!fragmented.is_current(Tick(now.0 + limit + 1)));
    }
}
