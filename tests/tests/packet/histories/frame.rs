// SPDX-License-Identifier: Apache-2.0

//! From a step to the frame that is sent.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use proxy_tests::family::IpFamily;
use proxy_tests::packet::{Chunk, Content, Icmp, Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use super::step::{Change, Dress, Error, Flow, Receiver, Target, What};
use crate::frames::{NODE_MAC, with_extension};
use crate::rig::Tabled;

/// The hardware address of the bridge that the client's device may be a port of.
pub(super) const BRIDGE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xb0];
const NEIGHBOUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
const ETHERNET: usize = 14;
/// How many VIPs and endpoints there are.
pub(super) const SERVICES: u8 = 5;
pub(super) const ENDPOINTS: u8 = 6;

/// The VIP of a Service, with its port.
pub(super) fn frontend<F: Tabled>(service: u8, port: u16) -> SocketAddr {
    SocketAddr::new(F::cluster_ip(1 + service), port)
}

/// An endpoint: pods on other nodes, and the clients themselves.
pub(super) fn endpoint<F: Tabled>(number: u8) -> SocketAddr {
    let (node, host, port) =
        [(2, 1, 8080), (2, 2, 8080), (1, 12, 8080), (1, 13, 8080), (2, 1, 8081), (2, 3, 8080)]
            [usize::from(number % ENDPOINTS)];
    SocketAddr::new(F::pod(node, host), port)
}

impl Flow {
    pub(super) fn client<F: Tabled>(self) -> SocketAddr {
        SocketAddr::new(F::pod(1, self.host), self.port)
    }

    pub(super) fn target<F: Tabled>(self) -> SocketAddr {
        match self.to {
            Target::Service { service, port } => frontend::<F>(service, port),
            Target::Endpoint(number) => endpoint::<F>(number),
            Target::Nobody => SocketAddr::new(F::cluster_ip(200), 80),
            Target::Stranger => SocketAddr::new(F::pod(2, 77), 80),
        }
    }
}

/// A packet between two sockets.
pub(super) fn packet<F: Tabled>(
    protocol: Protocol,
    what: &What,
    dress: Dress,
    (from, to): (SocketAddr, SocketAddr),
) -> Packet {
    let text: Vec<u8> = (1..=255).cycle().take(dress.payload.into()).collect();
    let packet = match (what, protocol) {
        (What::Usual { flags, sequence, acknowledgment }, Protocol::Tcp) => {
            let flags = TcpFlags::from_bits(*flags);
            Packet::tcp(from, to, flags).numbers(*sequence, *acknowledgment).payload(&text)
        }
        (What::Usual { .. }, Protocol::Udp) => Packet::udp(from, to, &text),
        (What::Usual { flags, sequence, acknowledgment }, Protocol::Sctp) => {
            // What corresponds to a segment; the number that acknowledges it is its tag.
            let tag = sequence.wrapping_add(1);
            let chunk = match flags & 0x17 {
                0x02 => return dressed::<F>(Packet::init(from, to, tag).payload(&text), dress),
                0x12 => {
                    let answer = Packet::init_ack(from, to, *acknowledgment, tag).payload(&text);
                    return dressed::<F>(answer, dress);
                }
                flags if flags & 0x04 != 0 => Chunk::ABORT,
                0x01 => Chunk::SHUTDOWN,
                0x11 => Chunk::SHUTDOWN_ACK,
                0x00 => Chunk::SHUTDOWN_COMPLETE,
                _ => Chunk::DATA,
            };
            Packet::sctp(from, to, *acknowledgment, chunk, &text)
        }
        (What::Echo, _) => {
            let kind = if F::FAMILY == IpFamily::V4 { 8 } else { 128 };
            let echo = Icmp { kind, code: 0, rest: [0, 7, 0, 1], payload: text };
            Packet::new(from.ip(), to.ip(), Content::Icmp(echo))
        }
        (What::Other(protocol), _) => {
            let payload = [[0x9c, 0x40, 0, 80].as_slice(), &text].concat();
            Packet::new(from.ip(), to.ip(), Content::Other { protocol: *protocol, payload })
        }
    };
    dressed::<F>(packet, dress)
}

fn dressed<F: Tabled>(mut packet: Packet, dress: Dress) -> Packet {
    match &mut packet.content {
        Content::Udp(udp) => udp.checksum = F::FAMILY == IpFamily::V6 || !dress.no_checksum,
        Content::Sctp(sctp) => sctp.checksum = !dress.no_checksum,
        _ => {}
    }
    (packet.hop_limit, packet.traffic_class, packet.label) = (57, 0xb8, dress.label.into());
    packet.link.destination = match dress.to {
        Receiver::Node => NODE_MAC,
        Receiver::Bridge => BRIDGE_MAC,
        Receiver::Neighbour => NEIGHBOUR_MAC,
        Receiver::Group => [0xff; 6],
    };
    packet.link.vlan = dress.vlan.then_some(7);
    packet.authentication = dress.authentication;
    packet.segments_left = (F::FAMILY == IpFamily::V6 && dress.source_route).then_some(1);
    if dress.options {
        packet = packet.with_options();
    }
    let Some(cut) = dress.cut else { return packet };
    // What is too short to be cut stays whole.
    let Ok(fragments) = packet.fragments(cut.length.max(1)) else { return packet };
    fragments[fragments.len().saturating_sub(1).min(cut.number.into())].clone()
}

/// An error about a packet.
pub(super) fn error<F: Tabled>(error: Error, about: &Packet) -> Result<Packet> {
    let kinds: &[(u8, u8)] = match F::FAMILY {
        IpFamily::V4 => &[(3, 1), (3, 3), (3, 4), (11, 0), (12, 0), (5, 1), (4, 0), (8, 0)],
        IpFamily::V6 => &[(1, 0), (1, 4), (2, 0), (3, 0), (4, 1), (137, 0), (100, 0), (128, 0)],
    };
    let kind = kinds[usize::from(error.kind) % kinds.len()];
    let reporter: IpAddr = if error.by_router { F::underlay(9) } else { about.destination };
    let rest = [0, 0, 5, 0x78];
    let packet = Packet::icmp_error(reporter, kind, rest, about, error.quoted.into())?;
    let packet = if error.options { packet.with_options() } else { packet };
    Ok(Packet { link: about.link, hop_limit: 61, ..packet })
}

/// Does something to a frame.
pub(super) fn change<F: Tabled>(frame: &mut Vec<u8>, change: &Change) {
    match *change {
        Change::Flip { at, bit } => {
            let at = usize::from(at) % frame.len().max(1);
            if let Some(byte) = frame.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Change::Set { at, value } => {
            let at = ETHERNET + usize::from(at);
            if let Some(bytes) = frame.get_mut(at..at + 2) {
                bytes.copy_from_slice(&value.to_be_bytes());
            }
        }
        Change::Cut(count) => frame.truncate(frame.len().saturating_sub(count.into())),
        Change::Pad { count, value } => frame.resize(frame.len() + usize::from(count), value),
        Change::Extension(kind) if F::FAMILY == IpFamily::V6 && frame.len() > ETHERNET + 40 => {
            *frame = with_extension(frame, kind);
        }
        Change::Extension(_) => {}
    }
}
