// SPDX-License-Identifier: Apache-2.0

//! TCP segments.

use std::ops::BitOr;

use etherparse::TcpHeader;

/// The flags of a TCP segment, as the header has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Start of a connection.
    pub const SYN: Self = Self(0x02);
    /// There is no such connection.
    pub const RST: Self = Self(0x04);
    /// Deliver at once.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number counts.
    pub const ACK: Self = Self(0x10);

    /// Those of these bits, as in the header, that are one of the flags above.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x1f)
    }

    /// Whether all of `flags` are set.
    #[must_use]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    pub(super) fn read(header: &TcpHeader) -> Self {
        [
            (header.fin, Self::FIN),
            (header.syn, Self::SYN),
            (header.rst, Self::RST),
            (header.psh, Self::PSH),
            (header.ack, Self::ACK),
        ]
        .into_iter()
        .filter_map(|(set, flag)| set.then_some(flag))
        .fold(Self::default(), BitOr::bitor)
    }

    pub(super) const fn write(self, header: &mut TcpHeader) {
        header.fin = self.contains(Self::FIN);
        header.syn = self.contains(Self::SYN);
        header.rst = self.contains(Self::RST);
        header.psh = self.contains(Self::PSH);
        header.ack = self.contains(Self::ACK);
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// The source port.
    pub source: u16,
    /// The destination port.
    pub destination: u16,
    /// The flags; others than those of [`TcpFlags`] are never set.
    pub flags: TcpFlags,
    /// The sequence number.
    pub sequence: u32,
    /// The acknowledgment number.
    pub acknowledgment: u32,
    /// The window.
    pub window: u16,
    /// The options, padded to a multiple of four bytes.
    pub options: Vec<u8>,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Tcp {
    /// A segment without payload and options.
    #[must_use]
    pub const fn new(source: u16, destination: u16, flags: TcpFlags) -> Self {
        Self {
            source,
            destination,
            flags,
            sequence: 1000,
            acknowledgment: if flags.contains(TcpFlags::ACK) { 2000 } else { 0 },
            window: 65_000,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }
}
