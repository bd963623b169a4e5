// SPDX-License-Identifier: Apache-2.0
//! Connections that the kernel's connection tracking translates, as of `linux/netfilter/nfnetlink_conntrack.h`.

use std::{fs, io};

use netlink_packet_core::{
    DecodeError, DefaultNla, parse_ip, parse_u8, parse_u16_be, parse_u32_be,
};
use proxy_common::{Address as _, Family, Port, Protocol};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::{Error, rules::number};
use crate::{
    bpf::ForeignNatTable,
    netlink::{AskError, Channel, Message, find},
};

/// `IPCTNL_MSG_CT_GET` of `NFNL_SUBSYS_CTNETLINK`.
const GET: u16 = 1 << 8 | 1;

/// `CTA_TUPLE_ORIG`, what the first packet had; in it `CTA_TUPLE_IP` and `CTA_TUPLE_PROTO`.
const ORIGINAL: u16 = 1;
const ADDRESSES: u16 = 1;
const PORTS: u16 = 2;
/// `CTA_IP_V4_DST` and `CTA_IP_V6_DST`.
const DESTINATIONS: [u16; 2] = [2, 4];
/// `CTA_PROTO_NUM` and `CTA_PROTO_DST_PORT`.
const PROTOCOL: u16 = 1;
const DESTINATION_PORT: u16 = 3;
/// `CTA_STATUS` and, for the bits of it that are asked for (since 5.16), `CTA_STATUS_MASK`.
const STATUS: u16 = 3;
const STATUS_MASK: u16 = 26;
/// `CTA_PROTOINFO`, in it `CTA_PROTOINFO_TCP`, in it `CTA_PROTOINFO_TCP_STATE`.
const DETAILS: u16 = 4;
const TCP_DETAILS: u16 = 1;
const TCP_STATE: u16 = 1;

/// `IPS_DST_NAT`: the destination is translated.
const TRANSLATED: u32 = 1 << 5;

/// `TCP_CONNTRACK_TIME_WAIT` and `TCP_CONNTRACK_CLOSE`: it has ended.
const ENDED: [u8; 2] = [7, 8];

/// How many connections are tracked in the calling thread's network namespace. Where nothing can be, there is no
/// such file.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// Where a connection's first packet went.
type Destination<F> = (<F as Family>::Addr, Port, Protocol);

/// How many connections there are that programs would refuse if these were not left to connection tracking.
pub(super) fn count<F: Family>(table: &ForeignNatTable<F>) -> Result<usize, Error> {
    let mut count = 0;
    for (address, port, protocol) in translated::<F>()? {
        count += usize::from(table.refuses(address, port, protocol).map_err(Error::Frontends)?);
    }
    Ok(count)
}

/// The connections whose destination is translated in the calling thread's network namespace: where their clients
/// believe them to go.
fn translated<F: Family>() -> Result<Vec<Destination<F>>, Error> {
    let mut destinations = Vec::new();
    match fs::read_to_string(COUNT) {
        // To ask would make the kernel load the module.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(destinations),
        Err(error) => return Err(Error::Read(COUNT, error)),
        Ok(count) if count.trim() == "0" => return Ok(destinations),
        Ok(_) => {}
    }
    let kernel = Channel::open(NETLINK_NETFILTER, "the connections that it translates")?;
    if let Some(mut kernel) = kernel {
        // What comes and goes meanwhile is no matter: those that go on are told of.
        let _ = kernel.dump(request::<F>(), |message| {
            destinations.extend(destination::<F>(&message)?);
            Ok::<_, AskError>(())
        })?;
    }
    Ok(destinations)
}

/// Asks for a family's connections whose destination is translated.
fn request<F: Family>() -> Message {
    let attribute = |kind| DefaultNla::new(kind, TRANSLATED.to_be_bytes().to_vec());
    Message::request(GET, number::<F>(), &[STATUS, STATUS_MASK].map(attribute))
}

/// The destination of a connection, if it is translated, by TCP or SCTP, and has not ended.
fn destination<F: Family>(message: &Message) -> Result<Option<Destination<F>>, DecodeError> {
    let all = &message.attributes;
    let status = find(all, STATUS)?.map(parse_u32_be).transpose()?.unwrap_or_default();
    let tuple = find(all, ORIGINAL)?;
    let ports = within(tuple, PORTS)?;
    let protocol = within(ports, PROTOCOL)?.map(parse_u8).transpose()?.map(Protocol::new);
    let state = within(within(find(all, DETAILS)?, TCP_DETAILS)?, TCP_STATE)?;
    let has_ended = state.map(parse_u8).transpose()?.is_some_and(|state| ENDED.contains(&state));
    let is_left = status & TRANSLATED != 0 && !has_ended;
    let is_served = |protocol: &Protocol| [Protocol::TCP, Protocol::SCTP].contains(protocol);
    let Some(protocol) = protocol.filter(is_served).filter(|_| is_left) else { return Ok(None) };
    let address = within(within(tuple, ADDRESSES)?, DESTINATIONS[F::INDEX as usize])?;
    let address = address.map(parse_ip).transpose()?.and_then(F::Addr::from_ip);
    let port = within(ports, DESTINATION_PORT)?.map(parse_u16_be).transpose()?;
    let destination = address.zip(port).map(|(address, port)| (address, Port::new(port), protocol));
    let malformed = || DecodeError::from("a tracked connection without its destination");
    destination.ok_or_else(malformed).map(Some)
}

/// The value of the first attribute of a kind within another one's.
fn within(outer: Option<&[u8]>, kind: u16) -> Result<Option<&[u8]>, DecodeError> {
    outer.map_or(Ok(None), |outer| find(outer, kind))
}

#[cfg(test)]
mod tests;
