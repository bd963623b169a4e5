// SPDX-License-Identifier: Apache-2.0

//! Requests are translated at ingress and replies at egress, and nothing in
//! them changes but addresses, ports and checksums.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::family::IpFamily;
use proxy_tests::packet::{Content, Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{
    backend, client, opening, proof, syn, tcp, udp, vip, with_extension, without_checksum,
};
use crate::programs::{At, Verdict};
use crate::rig::{Rig, Tabled};

both_families!(
    both_directions_are_translated,
    clients_and_backends_may_have_any_unicast_address,
    tcp_and_udp_on_one_port_are_two_frontends,
    segments_of_all_kinds_are_translated,
    options_and_payload_stay,
    extension_headers_stay,
    a_datagram_may_have_a_checksum_that_becomes_zero,
    a_datagram_without_checksum_gets_none,
);

fn both_directions_are_translated<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[backend::<F>(7)])?;
        let connection =
            Connection::establish(&rig.programs, protocol, client::<F>(12, 40_000), vip::<F>(1))?;
        assert_eq!(connection.backend, backend::<F>(7));
        assert_eq!(connection.source, connection.client);
        connection.prove(&rig.programs)?;
        connection.answer(&rig.programs)?;
    }
    Ok(())
}

/// Of a link (the probes of some load balancers come from there), and of ranges that no registry gives
/// away, as clusters take for pods.
fn clients_and_backends_may_have_any_unicast_address<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let addresses = match F::FAMILY {
        IpFamily::V4 => ["169.254.7.7", "240.1.0.5", "100.64.0.9", "255.255.255.254"],
        IpFamily::V6 => ["fe80::7", "4000::5", "2001:db8::9", "fec0::1"],
    };
    let socket = |address: &str, port| anyhow::Ok(SocketAddr::new(address.parse()?, port));
    for (host, address) in (1..).zip(addresses) {
        let (frontend, backend) = (vip::<F>(host), socket(address, 8080)?);
        for protocol in Protocol::ALL {
            let _: ServiceIndex = rig.service(frontend, protocol, &[backend])?;
            for client in addresses.iter().filter(|client| **client != address) {
                let client = socket(client, 40_000)?;
                let connection = Connection::establish(&rig.programs, protocol, client, frontend)?;
                assert_eq!((connection.backend, connection.source), (backend, client));
                connection.prove(&rig.programs)?;
                connection.answer(&rig.programs)?;
            }
        }
    }
    Ok(())
}

fn tcp_and_udp_on_one_port_are_two_frontends<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Tcp, &[backend::<F>(1)])?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Udp, &[backend::<F>(2)])?;
    let _: ServiceIndex = rig.service(vip::<F>(2), Protocol::Udp, &[backend::<F>(3)])?;
    let client = client::<F>(12, 40_000);
    let tcp = Connection::establish(&rig.programs, Protocol::Tcp, client, vip::<F>(1))?;
    let udp = Connection::establish(&rig.programs, Protocol::Udp, client, vip::<F>(1))?;
    assert_eq!((tcp.backend, udp.backend), (backend::<F>(1), backend::<F>(2)));
    tcp.answer(&rig.programs)?;
    // The other one has no frontend for TCP.
    let stranger = syn(client, vip::<F>(2));
    rig.programs.ingress(&stranger)?.is(Verdict::Pass, &stranger)
}

fn segments_of_all_kinds_are_translated<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Tcp, &[backend::<F>(7)])?;
    let client = client::<F>(12, 40_000);
    let connection = Connection::establish(&rig.programs, Protocol::Tcp, client, vip::<F>(1))?;
    let text: Vec<u8> = (0..=255).cycle().take(1400).collect();
    for flags in [TcpFlags::PSH, TcpFlags::FIN, TcpFlags::RST, TcpFlags::default()] {
        for payload in [&text[..0], &text[..1], &text[..1399], &text] {
            let flags = flags | TcpFlags::ACK;
            connection.request(&rig.programs, &tcp(client, vip::<F>(1), flags).payload(payload))?;
            connection
                .reply(&rig.programs, &tcp(backend::<F>(7), client, flags).payload(payload))?;
        }
    }
    Ok(())
}

fn options_and_payload_stay<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let client = client::<F>(12, 40_000);
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[backend::<F>(7)])?;
        let connection = Connection::open(&rig.programs, protocol, client, vip::<F>(1))?;
        let with = |from, to| with_options(proof(protocol, from, to));
        connection.request(&rig.programs, &with(client, vip::<F>(1)))?;
        connection.reply(&rig.programs, &with(backend::<F>(7), client))?;
        // The first packet of a flow too.
        let other = SocketAddr::new(client.ip(), 40_001);
        let first = with_options(opening(protocol, other, vip::<F>(1)));
        let expected = first.clone().to(backend::<F>(7));
        rig.programs.ingress(&first)?.is(Verdict::Pass, &expected)?;
    }
    Ok(())
}

/// A packet with options in all its headers.
fn with_options(packet: Packet) -> Packet {
    let mut packet = packet.with_options();
    if let Content::Tcp(tcp) = &mut packet.content {
        // No operation, twice, and time stamps (RFC 7323).
        tcp.options = vec![1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    }
    packet
}

fn extension_headers_stay<F: Tabled>() -> Result<()> {
    let extensions: &[&[u8]] = match F::FAMILY {
        // It has none.
        IpFamily::V4 => &[&[]],
        IpFamily::V6 => &[&[0], &[60], &[43], &[60, 43, 60, 0]],
    };
    let mut rig = Rig::<F>::new()?;
    let to = backend::<F>(7);
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[to])?;
        for (port, kinds) in (40_000..).zip(extensions) {
            let client = client::<F>(12, port);
            let extended = |packet: Packet| {
                let plain = packet.build()?;
                anyhow::Ok(kinds.iter().fold(plain, |frame, kind| with_extension(&frame, *kind)))
            };
            let (request, reply) =
                (opening(protocol, client, vip::<F>(1)), proof(protocol, to, client));
            let outcome = rig.programs.run(At::Ingress, &extended(request.clone())?)?;
            assert_eq!(outcome.verdict, Verdict::Pass);
            assert_eq!(outcome.frame, extended(request.to(to))?);
            let outcome = rig.programs.run(At::Egress, &extended(reply.clone())?)?;
            assert_eq!(outcome.verdict, Verdict::Pass);
            assert_eq!(outcome.frame, extended(reply.from(vip::<F>(1)))?);
        }
    }
    Ok(())
}

fn a_datagram_may_have_a_checksum_that_becomes_zero<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let (from, to) = (client::<F>(12, 40_000), backend::<F>(7));
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Udp, &[to])?;
    // With its own checksum as payload, a datagram sums to zero, which is
    // written as 0xffff.
    let empty = udp(from, to, &[0, 0]).build()?;
    let payload = &empty[empty.len() - 4..empty.len() - 2];
    let zero = udp(from, to, payload).build()?;
    assert_eq!(zero[zero.len() - 4..zero.len() - 2], [0xff, 0xff]);
    let connection = Connection::open(&rig.programs, Protocol::Udp, from, vip::<F>(1))?;
    connection.request(&rig.programs, &udp(from, vip::<F>(1), payload))
}

fn a_datagram_without_checksum_gets_none<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let (from, to) = (client::<F>(12, 40_000), backend::<F>(7));
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Udp, &[to])?;
    let request = udp(from, vip::<F>(1), b"");
    let outcome = rig.programs.run(At::Ingress, &without_checksum(&request.build()?))?;
    assert_eq!(outcome.frame, without_checksum(&request.to(to).build()?));
    let reply = udp(to, from, b"");
    let outcome = rig.programs.run(At::Egress, &without_checksum(&reply.build()?))?;
    assert_eq!(outcome.frame, without_checksum(&reply.from(vip::<F>(1)).build()?));
    Ok(())
}
