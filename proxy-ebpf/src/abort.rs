// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Refusing SCTP: an ABORT, built from the packet and sent back.
//!
//! Linux keeps an ICMP port unreachable in mind for when its association times out, minutes later
//! (`sctp_v4_err` in `net/sctp/input.c`), and RFC 9260 asks for no more. An ABORT ends it at once.

use aya_ebpf::programs::TcContext;

use crate::{
    crc32c,
    family::Datapath,
    frame::{RECOMPUTE, store},
    packet::Packet,
    reject::{change_tail, is_checksum_partial, turn},
    sctp::{ABORT, SHUTDOWN_ACK, SHUTDOWN_COMPLETE, SctpHeader},
    tcp,
};

/// The length of an answer, in bytes: one chunk without a value.
const LENGTH: u16 = size_of::<SctpHeader>() as u16;
const CHUNK_LENGTH: u16 = 4;
/// The flag that says that the tag is that of the packet which is answered (T).
const REFLECTED: u8 = 1;

/// Turns a packet into the ABORT that answers it, or a SHUTDOWN ACK into a SHUTDOWN COMPLETE (RFC
/// 9260 sections 8.4 and 8.5.1).
#[inline(never)]
pub(crate) fn abort<F: Datapath>(context: &TcContext, packet: &Packet<F>) -> bool {
    try_abort(context, packet).is_ok()
}

#[inline(always)]
fn try_abort<F: Datapath>(context: &TcContext, packet: &Packet<F>) -> Result<(), ()> {
    let segment = packet.segment;
    // An INIT says which tag it wants to be answered by.
    let (tag, chunk_flags) = if packet.is_segment(tcp::SYN) {
        (segment.sequence, 0)
    } else {
        (segment.acknowledgement, REFLECTED)
    };
    let chunk = if segment.chunk == SHUTDOWN_ACK { SHUTDOWN_COMPLETE } else { ABORT };
    let mut header = SctpHeader {
        source_port: packet.tuple.destination_port.to_wire(),
        destination_port: packet.tuple.source_port.to_wire(),
        tag: tag.to_be(),
        checksum: 0,
        chunk,
        chunk_flags,
        chunk_length: CHUNK_LENGTH.to_be(),
    };
    change_tail(context, u32::from(packet.transport) + u32::from(LENGTH))?;
    F::renew_header(context, packet, LENGTH)?;
    let addresses = [packet.tuple.destination, packet.tuple.source];
    store(context, packet.addresses(), &addresses, F::STORE_ADDRESSES)?;
    // The device computes it over zero.
    if !is_checksum_partial(context, packet)? {
        let pair = |low: u16, high: u16| u32::from(low.to_le()) | u32::from(high.to_le()) << 16;
        let words = [
            pair(header.source_port, header.destination_port),
            header.tag.to_le(),
            header.checksum,
            u32::from_le_bytes([chunk, chunk_flags, 0, CHUNK_LENGTH as u8]),
        ];
        header.checksum = crc32c::of_words(words).to_le();
    }
    store(context, packet.transport.into(), &header, RECOMPUTE)?;
    turn(context, packet)
}
