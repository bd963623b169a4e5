// SPDX-License-Identifier: Apache-2.0

//! SCTP packets (RFC 9260).

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use crc::{CRC_32_ISCSI, Crc};

use super::{Content, Packet};

/// The checksum: that of Castagnoli, which iSCSI has, too.
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The checksum over some bytes, as it stands in a packet.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> [u8; 4] {
    CHECKSUM.checksum(bytes).to_le_bytes()
}

/// The length of the common header, in bytes.
const HEADER: usize = 12;
/// The length of a chunk's own header, in bytes.
const CHUNK: usize = 4;
/// What an INIT and an INIT ACK have before their parameters, in bytes.
const INIT: usize = 16;

/// The type of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk(pub u8);

impl Chunk {
    /// What users send.
    pub const DATA: Self = Self(0);
    /// It asks for an association.
    pub const INIT: Self = Self(1);
    /// The answer to that.
    pub const INIT_ACK: Self = Self(2);
    /// What has come of the data.
    pub const SACK: Self = Self(3);
    /// Whether somebody is there.
    pub const HEARTBEAT: Self = Self(4);
    /// There is no such association.
    pub const ABORT: Self = Self(6);
    /// No more data from the sender.
    pub const SHUTDOWN: Self = Self(7);
    /// The answer to that.
    pub const SHUTDOWN_ACK: Self = Self(8);
    /// The answer to the INIT ACK.
    pub const COOKIE_ECHO: Self = Self(10);
    /// The answer to that.
    pub const COOKIE_ACK: Self = Self(11);
    /// The answer to a SHUTDOWN ACK.
    pub const SHUTDOWN_COMPLETE: Self = Self(14);
    /// It says that others may be let go of (RFC 3758).
    pub const FORWARD_TSN: Self = Self(192);

    /// Its bytes, padded to whole words. All flags are zero.
    #[must_use]
    pub fn with(self, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(CHUNK + value.len()).unwrap_or(u16::MAX);
        let mut bytes = [&[self.0, 0], length.to_be_bytes().as_slice(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
}

/// An SCTP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sctp {
    /// The source port.
    pub source: u16,
    /// The destination port.
    pub destination: u16,
    /// The verification tag.
    pub tag: u32,
    /// Whether it has a checksum, or zero instead: one that is left to the
    /// device, or that its ends do without (RFC 9653).
    pub checksum: bool,
    /// The chunks.
    pub chunks: Vec<u8>,
}

impl Sctp {
    /// With the right checksum.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.source.to_be_bytes(), self.destination.to_be_bytes()].concat();
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.chunks);
        if self.checksum {
            let sum = crc32c(&bytes);
            bytes[HEADER - 4..HEADER].copy_from_slice(&sum);
        }
        bytes
    }

    /// Fails if the checksum is wrong.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let (header, chunks) = bytes.split_first_chunk::<HEADER>().context("the SCTP header")?;
        let [ports, tag, found] = header.as_chunks::<4>().0 else { anyhow::bail!("no header") };
        let sctp = Self {
            source: u16::from_be_bytes([ports[0], ports[1]]),
            destination: u16::from_be_bytes([ports[2], ports[3]]),
            tag: u32::from_be_bytes(*tag),
            checksum: *found != [0; 4],
            chunks: chunks.to_vec(),
        };
        let right = &sctp.bytes()[HEADER - 4..HEADER];
        ensure!(found == right, "the SCTP checksum is {found:02x?}, should be {right:02x?}");
        Ok(sctp)
    }

    /// Replaces what the first chunk carries, and drops the others. An INIT or INIT ACK keeps its
    /// fixed part.
    pub(super) fn set_payload(&mut self, payload: &[u8]) {
        let Some((&[kind, flags, ..], value)) = self.chunks.split_first_chunk::<CHUNK>() else {
            return;
        };
        let is_init = [Chunk::INIT, Chunk::INIT_ACK].contains(&Chunk(kind));
        let fixed = value.get(..INIT).filter(|_| is_init).unwrap_or_default();
        let mut chunks = Chunk(kind).with(&[fixed, payload].concat());
        chunks[1] = flags;
        self.chunks = chunks;
    }
}

impl Packet {
    /// An SCTP packet of one chunk.
    #[must_use]
    pub fn sctp(
        source: SocketAddr,
        destination: SocketAddr,
        tag: u32,
        chunk: Chunk,
        value: &[u8],
    ) -> Self {
        let sctp = Sctp {
            source: source.port(),
            destination: destination.port(),
            tag,
            checksum: true,
            chunks: chunk.with(value),
        };
        Self::new(source.ip(), destination.ip(), Content::Sctp(sctp))
    }

    /// An INIT, which asks to be answered by this tag.
    #[must_use]
    pub fn init(source: SocketAddr, destination: SocketAddr, initiate_tag: u32) -> Self {
        Self::sctp(source, destination, 0, Chunk::INIT, &init_value(initiate_tag))
    }

    /// The INIT ACK that answers who asked for `tag`, and asks to be answered by another one.
    #[must_use]
    pub fn init_ack(
        source: SocketAddr,
        destination: SocketAddr,
        tag: u32,
        initiate_tag: u32,
    ) -> Self {
        let cookie = [&init_value(initiate_tag), [0, 7, 0, 8, 1, 2, 3, 4].as_slice()].concat();
        Self::sctp(source, destination, tag, Chunk::INIT_ACK, &cookie)
    }
}

/// Tag, window, streams out and in, and the first sequence number.
fn init_value(initiate_tag: u32) -> Vec<u8> {
    [&initiate_tag.to_be_bytes(), [0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0x30, 0x39].as_slice()].concat()
}
