// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TCP (RFC 9293), as far as the programs care.

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 1 << 1;
pub(crate) const RST: u8 = 1 << 2;
pub(crate) const ACK: u8 = 1 << 4;

/// A header without options.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TcpHeader {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) offset: u8,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) checksum: u16,
    pub(crate) urgent: u16,
}

/// What a header says beyond ports. A packet of SCTP is told as the segment that it corresponds to.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Segment {
    /// In the machine's order. SCTP: the initiate tag, if there is one.
    pub(crate) sequence: u32,
    /// In the machine's order. SCTP: the verification tag.
    pub(crate) acknowledgement: u32,
    /// TCP: the header's length, in bytes.
    pub(crate) header: u8,
    pub(crate) flags: u8,
    /// SCTP: the type of the first chunk.
    pub(crate) chunk: u8,
}
