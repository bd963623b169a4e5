// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the programs at sockets remember: with each socket, in the kernel's socket storage
//! (`BPF_MAP_TYPE_SK_STORAGE`). It goes with its socket, and no other socket can push it out.
//!
//! All hooks run with their socket locked, so whatever is here is read and written by one at a
//! time.

use crate::{Address as _, Port, backend::BackendId, clock::Tick, family::V6Addr, pod};

/// To how many frontends an unconnected socket can send at a time and be answered by them. The one
/// that was used least recently makes room for the next.
pub const MAX_SENT: usize = 16;

/// The most network namespaces that can be left out. Those that have gone are never removed: whose
/// processes have been silent for longest makes room.
pub const MAX_LEFT_OUT: u32 = 1 << 12;

/// An address and a port of either family. An IPv4 address is mapped (`::ffff:192.0.2.1`, RFC 4291
/// section 2.5.5.2), since an IPv6 socket may send to both.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketAddress {
    /// The address.
    pub address: V6Addr,
    /// The port.
    pub port: Port,
    /// Always zero.
    reserved: u16,
}

impl SocketAddress {
    /// An address and a port.
    #[must_use]
    #[inline(always)]
    pub const fn new(address: V6Addr, port: Port) -> Self {
        Self { address, port, reserved: 0 }
    }

    /// Whether two are the same, by a single comparison: a verifier follows each branch of what
    /// comes after one.
    #[must_use]
    #[inline(always)]
    pub fn is(&self, other: &Self) -> bool {
        let words = self.address.words().iter().zip(other.address.words());
        let difference = words.fold(0, |all, (own, its)| all | (own ^ its));
        difference | u32::from(self.port.to_wire() ^ other.port.to_wire()) == 0
    }
}

/// What became of an address that a process named.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// The frontend that the process named, and goes on seeing.
    pub asked: SocketAddress,
    /// The backend that it was given.
    pub given: SocketAddress,
    /// The backend's row; [`BackendId::NONE`] if nothing is translated.
    pub backend: BackendId,
    /// The backend's generation when it was chosen.
    pub generation: u32,
    /// The family of the tables that the row is in: [`Family::INDEX`](crate::Family::INDEX).
    pub family: u32,
    /// When it was used last, for its time-out.
    pub used: Tick,
}

/// What became of the addresses that an unconnected socket sends to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// In no order; places that are not used translate nothing.
    pub translations: [Translation; MAX_SENT],
    /// Which of the socket's datagrams used each of them last. The clock is too coarse for an order.
    pub order: [u32; MAX_SENT],
    /// How many of the socket's datagrams were given backends; wraps.
    pub datagrams: u32,
    /// Which of them was found last.
    pub place: u32,
    /// How well it fitted.
    pub fitness: u32,
    /// Always zero.
    pub reserved: u32,
}

/// What is told of a connected UDP socket that was given something.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The socket's cookie (`SO_COOKIE`).
    pub cookie: u64,
    /// What it was given.
    pub translation: Translation,
}

/// The mark of a network namespace whose processes are not served at their sockets.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut(u32);

impl LeftOut {
    /// The mark.
    pub const YES: Self = Self(1);
}

pod!(SocketAddress, Translation, Sent, Told, LeftOut);

const _: () = assert!(size_of::<SocketAddress>() == 20);
const _: () = assert!(size_of::<Translation>() == 56);
const _: () = assert!(size_of::<Told>() == 64);
const _: () = assert!(size_of::<Sent>() == MAX_SENT * 60 + 16 && MAX_SENT.is_power_of_two());
