// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What programs tell those who listen, as it happens: new flows, drops and refusals.

use crate::{
    Family, Port, Protocol, counter::Reason, frontend::ServiceIndex, pod, socket::SocketAddress,
};

/// How many can listen at a time. Each has a ring buffer of its own.
pub const LISTENERS: usize = 4;

/// The bytes of a listener's ring buffer, a multiple of any size of pages.
pub const BUFFER: u32 = 1 << 19;

/// What happens.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A flow was created.
    Flow = 0,
    /// A socket, or a datagram of an unconnected one, was given a backend.
    Socket = 1,
    /// A packet was dropped, or a call at a socket refused in a way that says so.
    Drop = 2,
    /// A packet, or a call at a socket, was refused.
    Reject = 3,
}

impl Happening {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Flow, Self::Socket, Self::Drop, Self::Reject];

    /// What a reason stands for, if it is told of.
    #[must_use]
    #[inline(always)]
    pub const fn of(reason: Reason) -> Option<Self> {
        if reason.is_drop() {
            Some(Self::Drop)
        } else if reason.is_reject() {
            Some(Self::Reject)
        } else {
            match reason {
                Reason::FlowCreated => Some(Self::Flow),
                Reason::SocketTranslated => Some(Self::Socket),
                _ => None,
            }
        }
    }

    /// The bit of what happens in a family, in [`Listeners::wanted`].
    #[must_use]
    #[inline(always)]
    pub const fn bit<F: Family>(self) -> u64 {
        1 << (self as u32 + 4 * F::INDEX)
    }
}

/// Who listens, and to what: one row for all. Each word is stored whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// What each wants to hear, as [bits](Happening::bit); 0 where nobody listens.
    pub wanted: [u64; LISTENERS],
    /// Until when each wants to hear it, in nanoseconds of `CLOCK_MONOTONIC`: who ends without saying so is not told any
    /// more.
    pub until: [u64; LISTENERS],
    /// How much could not be told each, for want of room in its ring buffer.
    pub lost: [u64; LISTENERS],
}

impl Listeners {
    /// Where a listener's words are in the row: what it wants, until when, and what was lost.
    #[must_use]
    pub const fn words(listener: usize) -> [usize; 3] {
        [listener, LISTENERS + listener, 2 * LISTENERS + listener]
    }
}

/// What has happened, once.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// Who has sent the packet; unspecified for a socket, which may have no address yet.
    pub source: SocketAddress,
    /// To whom: what the client, or the process, has named.
    pub destination: SocketAddress,
    /// The backend; unspecified if there is none.
    pub backend: SocketAddress,
    /// The Service port; one before [`ServiceIndex::FIRST`] if it is for none.
    pub service: ServiceIndex,
    /// The device by interface index; 0 for a socket.
    pub device: u32,
    /// The family by [`Family::INDEX`].
    pub family: u8,
    /// The protocol.
    pub protocol: Protocol,
    /// Why: the number of a [`Reason`].
    pub reason: u8,
    /// Always zero.
    pub reserved: u8,
}

impl Event {
    /// An address and a port.
    #[must_use]
    #[inline(always)]
    pub fn address<F: Family>(address: F::Addr, port: Port) -> SocketAddress {
        use crate::Address as _;
        SocketAddress::new(address.to_mapped(), port)
    }
}

pod!(Listeners, Event);

const _: () = assert!(size_of::<Event>() == 80);
const _: () = assert!(size_of::<Listeners>() == 3 * 8 * LISTENERS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{V4, V6};

    #[test]
    fn reasons_stand_for_what_they_are_called() {
        for reason in Reason::ALL {
            let expected = match reason.name() {
                "flow-created" => Some(Happening::Flow),
                "socket-translated" => Some(Happening::Socket),
                name if name.starts_with("drop-") => Some(Happening::Drop),
                name if name.starts_with("reject-") => Some(Happening::Reject),
                _ => None,
            };
            assert_eq!(Happening::of(*reason), expected, "{}", reason.name());
        }
    }

    #[test]
    fn what_happens_in_a_family_has_a_bit_of_its_own() {
        let bits = Happening::ALL.map(|happening| [happening.bit::<V4>(), happening.bit::<V6>()]);
        let all = bits.as_flattened().iter().fold(0, |all, bit| {
            assert_eq!(all & bit, 0);
            all | bit
        });
        assert_eq!(all, 0xff);
    }
}
