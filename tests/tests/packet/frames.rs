// SPDX-License-Identifier: Apache-2.0

//! The packets that the scenarios are made of.

use std::net::SocketAddr;

use proxy_tests::packet::{Chunk, Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::rig::Tabled;

/// The hardware address of the node at the test's device (loopback has none).
pub(crate) const NODE_MAC: [u8; 6] = [0; 6];
/// The sequence number of the client's SYN.
pub(crate) const CLIENT_ISN: u32 = 0xffff_fff0;
/// The sequence number of the backend's SYN.
pub(crate) const BACKEND_ISN: u32 = 0xffff_ffff;

/// The tag that the client wants to be answered by.
pub(crate) const CLIENT_TAG: u32 = 0x8765_4321;
/// The tag that the backend wants to be answered by.
pub(crate) const BACKEND_TAG: u32 = 0xffff_ffff;

/// A port of a client.
pub(crate) fn client<F: Tabled>(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(F::pod(1, host), port)
}

/// Port 80 of a ClusterIP.
pub(crate) fn vip<F: Tabled>(host: u8) -> SocketAddr {
    SocketAddr::new(F::cluster_ip(host), 80)
}

/// Port 8080 of a pod on another node.
pub(crate) fn backend<F: Tabled>(host: u8) -> SocketAddr {
    SocketAddr::new(F::pod(2, host), 8080)
}

/// Several of them.
pub(crate) fn backends<F: Tabled>(count: u8) -> Vec<SocketAddr> {
    (1..=count).map(backend::<F>).collect()
}

/// A packet as it is on its way, with nothing at its default that must stay.
fn on_its_way(mut packet: Packet) -> Packet {
    packet.link.destination = NODE_MAC;
    packet.hop_limit = 57;
    packet.traffic_class = 0xb8;
    packet
}

/// A segment.
pub(crate) fn tcp(from: SocketAddr, to: SocketAddr, flags: TcpFlags) -> Packet {
    on_its_way(Packet::tcp(from, to, flags))
}

/// A datagram.
pub(crate) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Packet {
    on_its_way(Packet::udp(from, to, payload))
}

/// A SYN.
pub(crate) fn syn(from: SocketAddr, to: SocketAddr) -> Packet {
    tcp(from, to, TcpFlags::SYN).numbers(CLIENT_ISN, 0)
}

/// The backend's answer to a SYN.
pub(crate) fn syn_ack(from: SocketAddr, to: SocketAddr) -> Packet {
    let acknowledgment = CLIENT_ISN.wrapping_add(1);
    tcp(from, to, TcpFlags::SYN | TcpFlags::ACK).numbers(BACKEND_ISN, acknowledgment)
}

/// The client's answer to that.
pub(crate) fn ack(from: SocketAddr, to: SocketAddr) -> Packet {
    let (sequence, acknowledgment) = (CLIENT_ISN.wrapping_add(1), BACKEND_ISN.wrapping_add(1));
    tcp(from, to, TcpFlags::ACK).numbers(sequence, acknowledgment)
}

/// An INIT.
pub(crate) fn init(from: SocketAddr, to: SocketAddr) -> Packet {
    on_its_way(Packet::init(from, to, CLIENT_TAG))
}

/// The backend's answer to that.
pub(crate) fn init_ack(from: SocketAddr, to: SocketAddr) -> Packet {
    on_its_way(Packet::init_ack(from, to, CLIENT_TAG, BACKEND_TAG))
}

/// An SCTP packet of one chunk.
pub(crate) fn sctp(from: SocketAddr, to: SocketAddr, tag: u32, chunk: Chunk) -> Packet {
    on_its_way(Packet::sctp(from, to, tag, chunk, b"text"))
}

/// What opens a flow.
pub(crate) fn opening(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Packet {
    match protocol {
        Protocol::Tcp => syn(from, to),
        Protocol::Udp => udp(from, to, b"question"),
        Protocol::Sctp => init(from, to),
    }
}

/// What a backend answers to that.
pub(crate) fn answer(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Packet {
    match protocol {
        Protocol::Tcp => syn_ack(from, to),
        Protocol::Udp => udp(from, to, b"answer"),
        Protocol::Sctp => init_ack(from, to),
    }
}

/// What a client says then, and what proves that it is there.
pub(crate) fn proof(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Packet {
    match protocol {
        Protocol::Tcp => ack(from, to),
        Protocol::Udp => udp(from, to, b"another question"),
        Protocol::Sctp => sctp(from, to, BACKEND_TAG, Chunk::COOKIE_ECHO),
    }
}

/// An IPv6 frame with one more extension header, the first of all: hop-by-hop
/// options (0), a routing header without segments left (43), destination
/// options (60).
pub(crate) fn with_extension(frame: &[u8], kind: u8) -> Vec<u8> {
    const ETHERNET: usize = 14;
    const HEADER: usize = ETHERNET + 40;
    let mut frame = frame.to_vec();
    let next = frame[ETHERNET + 6];
    let content = match kind {
        43 => [next, 0, 2, 0, 0, 0, 0, 0],
        // PadN of six bytes.
        _ => [next, 0, 1, 4, 0, 0, 0, 0],
    };
    frame[ETHERNET + 6] = kind;
    let length = u16::from_be_bytes([frame[ETHERNET + 4], frame[ETHERNET + 5]]).wrapping_add(8);
    frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&length.to_be_bytes());
    drop(frame.splice(HEADER..HEADER, content));
    frame
}

/// A frame without UDP checksum, made of one that has no payload.
pub(crate) fn without_checksum(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let end = frame.len();
    frame[end - 2..].fill(0);
    frame
}
