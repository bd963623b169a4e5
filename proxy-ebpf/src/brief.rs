// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Packets of the short ways: whole segments and datagrams without options, as short as they can be read, in the
//! host's stack and in drivers.

use proxy_common::{
    Protocol,
    flow::{FlowKey, Hook, Tuple},
};

use crate::{
    family::Datapath,
    frame::{Frame, read},
    tcp::{self, TcpHeader},
};

/// The length of a UDP header, in bytes.
const UDP_HEADER: u32 = 8;

/// The key of a packet's flow, if the packet is whole; and those of a segment's flags that begin or
/// end a connection, with the one that tells the two SYNs apart.
#[inline(always)]
pub(crate) fn key<F: Datapath>(
    context: &impl Frame,
    network: usize,
    hook: Hook,
) -> Option<(FlowKey<F>, u8)> {
    let (protocol, end) = F::brief(context, network)?;
    let transport = network + F::HEADER;
    let mut flags = 0;
    let header = match protocol {
        Protocol::TCP => {
            let header: TcpHeader = read(context, transport)?;
            if header.flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0 {
                flags = header.flags & (tcp::SYN | tcp::FIN | tcp::RST | tcp::ACK);
            }
            let length = u32::from(header.offset >> 4) * 4;
            if length < size_of::<TcpHeader>() as u32 {
                return None;
            }
            length
        }
        Protocol::UDP => {
            let [_, _, length, _]: [u16; 4] = read(context, transport)?;
            let length = u32::from(u16::from_be(length));
            if length < UDP_HEADER {
                return None;
            }
            length
        }
        _ => return None,
    };
    if transport as u32 + header > end || !context.holds(end) {
        return None;
    }
    // Without options, addresses and ports lie there as they lie in a tuple.
    let tuple: Tuple<F> = read(context, network + F::ADDRESSES)?;
    Some((FlowKey::new(tuple, protocol, hook), flags))
}
