// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Frames as the gauge makes and reads them: Ethernet, the family's header without options or
//! extensions, TCP without options.

use aya_ebpf::programs::{TcContext, XdpContext};
use proxy_common::{Family, Port, Protocol, V4, V6, flow::Tuple};

use crate::load::load;

/// The length of an Ethernet header, in bytes.
pub(crate) const ETHERNET: usize = 14;
/// The length of a TCP header, in bytes.
const TCP: usize = 20;

/// Where things are in the frames of a family. Offsets are in bytes, from the beginning of the frame.
pub(crate) trait Layout: Family {
    /// The Ethernet type.
    const ETHERTYPE: u16;
    /// The header's first byte, as far as it is always the same, and which bits these are.
    const BEGINNING: (u8, u8);
    /// Where the protocol is.
    const PROTOCOL: usize;
    /// Where the header checksum is, if there is one.
    const HEADER_CHECKSUM: Option<usize>;
    /// Where the bits are that say whether this is a fragment, if they are in the header.
    const FRAGMENT: Option<usize>;
    /// Where the source address is; the destination follows.
    const ADDRESSES: usize;
    /// Where the transport header is.
    const TRANSPORT: usize;
    /// The length of a frame.
    const LENGTH: usize = Self::TRANSPORT + TCP;
    /// The length of an address.
    const ADDRESS: usize = size_of::<Self::Addr>();
}

impl Layout for V4 {
    const ETHERTYPE: u16 = 0x0800;
    const BEGINNING: (u8, u8) = (0x45, 0xff);
    const PROTOCOL: usize = ETHERNET + 9;
    const HEADER_CHECKSUM: Option<usize> = Some(ETHERNET + 10);
    const FRAGMENT: Option<usize> = Some(ETHERNET + 6);
    const ADDRESSES: usize = ETHERNET + 12;
    const TRANSPORT: usize = ETHERNET + 20;
}

impl Layout for V6 {
    const ETHERTYPE: u16 = 0x86dd;
    const BEGINNING: (u8, u8) = (0x60, 0xf0);
    const PROTOCOL: usize = ETHERNET + 6;
    const HEADER_CHECKSUM: Option<usize> = None;
    const FRAGMENT: Option<usize> = None;
    const ADDRESSES: usize = ETHERNET + 8;
    const TRANSPORT: usize = ETHERNET + 40;
}

/// A frame whose headers are in one piece.
pub(crate) trait Bytes {
    /// Where it begins and ends.
    fn range(&self) -> (usize, usize);
}

impl Bytes for TcContext {
    #[inline(always)]
    fn range(&self) -> (usize, usize) {
        (self.data(), self.data_end())
    }
}

impl Bytes for XdpContext {
    #[inline(always)]
    fn range(&self) -> (usize, usize) {
        (self.data(), self.data_end())
    }
}

/// Reads a value of the frame's linear part, which must be valid for any bytes.
#[inline(always)]
pub(crate) fn read<T: Copy, C: Bytes>(context: &C, offset: usize) -> Option<T> {
    let (start, end) = context.range();
    let start = start + offset;
    if start + size_of::<T>() > end {
        return None;
    }
    // SAFETY: within the packet, as just checked.
    Some(unsafe { load(start) })
}

/// Parses a frame as little as one can: the addresses and ports of a whole TCP packet.
#[inline(always)]
pub(crate) fn parse<F: Layout>(context: &impl Bytes) -> Option<Tuple<F>> {
    let (start, end) = context.range();
    if start + F::TRANSPORT + TCP > end {
        return None;
    }
    let (beginning, mask) = F::BEGINNING;
    if read::<u16, _>(context, 12)? != F::ETHERTYPE.to_be()
        || read::<u8, _>(context, ETHERNET)? & mask != beginning
        || read::<u8, _>(context, F::PROTOCOL)? != Protocol::TCP.number()
    {
        return None;
    }
    if let Some(fragment) = F::FRAGMENT
        && read::<u16, _>(context, fragment)? & 0x3fff_u16.to_be() != 0
    {
        return None;
    }
    let [source, destination]: [F::Addr; 2] = read(context, F::ADDRESSES)?;
    let [source_port, destination_port]: [u16; 2] = read(context, F::TRANSPORT)?;
    Some(Tuple {
        source,
        destination,
        source_port: Port::from_wire(source_port),
        destination_port: Port::from_wire(destination_port),
    })
}
