// SPDX-License-Identifier: Apache-2.0

//! Segments of TCP, and the packets of SCTP that correspond to them (`docs/packets.md`).

use super::frame::{View, number, number_of_four};

/// What the rules ask of a TCP header, or of an SCTP packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// The sequence number; the initiate tag of an INIT or INIT ACK.
    pub(super) sequence: u32,
    /// The acknowledgment number; the verification tag.
    pub(super) acknowledgment: u32,
    flags: u8,
    /// The length of the header of TCP.
    pub(super) header: usize,
    /// The type of the first chunk of SCTP.
    pub(super) chunk: Option<u8>,
}

impl Segment {
    pub(super) const fn is_fin(self) -> bool {
        self.flags & 1 != 0
    }

    pub(super) const fn is_syn(self) -> bool {
        self.flags & 2 != 0
    }

    pub(super) const fn is_reset(self) -> bool {
        self.flags & 4 != 0
    }

    pub(super) const fn is_ack(self) -> bool {
        self.flags & 16 != 0
    }

    /// What acknowledges it, if it opens one side of a connection.
    pub(super) const fn proof(self) -> u32 {
        self.sequence.wrapping_add(if self.chunk.is_none() { 1 } else { 0 })
    }

    /// Whether it asks for a connection.
    pub(super) const fn opens(self) -> bool {
        self.is_syn() && !self.is_ack() && !self.is_reset()
    }
}

impl View {
    /// Reads a TCP segment (RFC 9293).
    pub(super) fn read_tcp(&self, frame: &[u8]) -> Option<Segment> {
        let at = self.transport;
        let header = frame.get(at..at + 20)?;
        let length = usize::from(header[12] >> 4) * 4;
        if length < 20 || !self.is_first && at + length > self.end {
            return None;
        }
        Some(Segment {
            sequence: number_of_four(header, 4)?,
            acknowledgment: number_of_four(header, 8)?,
            flags: header[13],
            header: length,
            chunk: None,
        })
    }

    /// Reads an SCTP packet (RFC 9260), of which the first chunk says what it is. What opens one side
    /// of an association stands alone and comes whole.
    pub(super) fn read_sctp(&self, frame: &[u8]) -> Option<Segment> {
        let at = self.transport;
        let tag = number_of_four(frame, at + 4)?;
        let chunk = *frame.get(at + 12)?;
        let length = usize::from(number(frame, at + 14)?);
        if length < 4 || !self.is_first && at + 12 + length > self.end {
            return None;
        }
        let flags = match chunk {
            1 => 2,
            2 => 2 | 16,
            6 | 14 => 4,
            7 | 8 => 1 | 16,
            _ => 16,
        };
        let mut sequence = 0;
        if flags & 2 != 0 {
            let stands_alone = at + 12 + length.next_multiple_of(4) >= self.end;
            if self.is_first || length < 20 || !stands_alone || chunk == 1 && tag != 0 {
                return None;
            }
            sequence = number_of_four(frame, at + 16)?;
        }
        Some(Segment { sequence, acknowledgment: tag, flags, header: 0, chunk: Some(chunk) })
    }
}
