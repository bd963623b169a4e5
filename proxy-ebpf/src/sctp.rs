// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! SCTP (RFC 9260), as far as the programs care. A packet is told by its first chunk, as the TCP
//! segment that it corresponds to: so both kinds of connection are followed by one text.

use aya_ebpf::programs::TcContext;
use proxy_common::{Port, flow::Tuple};

use crate::{
    crc32c,
    family::Datapath,
    frame::{RECOMPUTE, store},
    packet::{Packet, Parsed, Part},
    tcp::{ACK, FIN, RST, SYN, Segment},
};

/// Types of chunks (section 3.2).
pub(crate) const ABORT: u8 = 6;
pub(crate) const SHUTDOWN_ACK: u8 = 8;
pub(crate) const SHUTDOWN_COMPLETE: u8 = 14;

/// The flags of the segments that packets correspond to, by the type of their first chunk. All
/// chunks with other types are amid an association.
static AS_SEGMENT: [u8; 16] = {
    let mut flags = [ACK; 16];
    flags[1] = SYN; // INIT
    flags[2] = SYN | ACK; // INIT ACK
    flags[7] = FIN | ACK; // SHUTDOWN
    flags[SHUTDOWN_ACK as usize] = FIN | ACK;
    flags[ABORT as usize] = RST;
    flags[SHUTDOWN_COMPLETE as usize] = RST;
    flags
};

/// The lengths of the common header, of a chunk's own header, and of an INIT or INIT ACK without
/// parameters, in bytes.
const COMMON: u32 = 12;
const CHUNK: u32 = 4;
const INIT: u32 = 20;

/// The common header, and that of the first chunk.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SctpHeader {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) tag: u32,
    /// The least significant byte first.
    pub(crate) checksum: u32,
    pub(crate) chunk: u8,
    pub(crate) chunk_flags: u8,
    pub(crate) chunk_length: u16,
}

impl<F: Datapath> Packet<F> {
    /// Reads an SCTP packet, without moving any of it. Behind the common header of a large send (GSO)
    /// comes a list of packets, each as long as it is to be sent: what is pulled from the first of
    /// them, it will lack.
    #[inline(always)]
    pub(crate) fn parse_sctp(&mut self, context: &TcContext, transport: usize) -> Option<Parsed> {
        let header: SctpHeader = context.load(transport).ok()?;
        let chunk = u32::from(u16::from_be(header.chunk_length));
        if chunk < CHUNK || !self.has(size_of::<SctpHeader>() as u32, COMMON + chunk) {
            return None;
        }
        let flags = AS_SEGMENT.get(usize::from(header.chunk)).copied().unwrap_or(ACK);
        let mut initiate_tag = 0;
        if flags & SYN != 0 {
            // Both stand alone, and an INIT knows of no tag yet (sections 3.3.2, 3.3.3 and 8.5.1).
            // Chunks are padded to whole words. Nobody sends them in fragments, of which the first
            // does not say whether they stand alone.
            let end = u32::from(self.transport) + COMMON + ((chunk + 3) & !3);
            if self.part != Part::WHOLE
                || chunk < INIT
                || end < self.end
                || flags == SYN && header.tag != 0
            {
                return None;
            }
            let at = transport + size_of::<SctpHeader>();
            initiate_tag = u32::from_be(context.load(at).ok()?);
        }
        self.segment = Segment {
            sequence: initiate_tag,
            acknowledgement: u32::from_be(header.tag),
            header: 0,
            flags,
            chunk: header.chunk,
        };
        self.tuple.source_port = Port::from_wire(header.source_port);
        self.tuple.destination_port = Port::from_wire(header.destination_port);
        Some(Parsed::Transport)
    }
}

/// Gives a packet other ports. The checksum covers them and no address.
///
/// A checksum of zero is left alone. It is one that the device is to compute over the packet with
/// zero in its place (what pods send), or one that its two ends do without (RFC 9653). One whole
/// checksum in 2^32 is zero, too: such a packet is thrown away by its receiver.
///
/// A first fragment does not say how long the whole is, on which the checksum depends: it gets no
/// other ports.
#[inline(never)]
pub(crate) fn rewrite_ports<F: Datapath>(
    context: &TcContext,
    packet: &Packet<F>,
    to: &Tuple<F>,
) -> bool {
    try_rewrite_ports(context, packet, to).is_some()
}

#[inline(always)]
fn try_rewrite_ports<F: Datapath>(
    context: &TcContext,
    packet: &Packet<F>,
    to: &Tuple<F>,
) -> Option<()> {
    if packet.part != Part::WHOLE {
        return None;
    }
    // There are no jumbograms of it.
    let length = u16::try_from(packet.end.wrapping_sub(packet.transport.into())).ok()?;
    let from = &packet.tuple;
    let change = |from: Port, to: Port| u32::from((from.to_wire() ^ to.to_wire()).to_le());
    let difference = change(from.source_port, to.source_port)
        | change(from.destination_port, to.destination_port) << 16;
    let checksum: u32 = context.load(packet.checksum()).ok()?;
    if checksum != 0 {
        let checksum = checksum ^ crc32c::difference(difference, length).to_le();
        store(context, packet.checksum(), &checksum, RECOMPUTE).ok()?;
    }
    let ports = [to.source_port.to_wire(), to.destination_port.to_wire()];
    store(context, packet.transport.into(), &ports, RECOMPUTE).ok()
}
