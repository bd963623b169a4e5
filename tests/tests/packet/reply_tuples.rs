// SPDX-License-Identifier: Apache-2.0

//! Flows whose replies would be the same packets: one of them gets another
//! source port, and both work.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Result;
use proxy_common::counter::Reason;
use proxy_common::device::Device;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::packet::{Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{answer, backend, client, opening, proof, tcp, vip};
use crate::loaded::SOURCE_PORTS;
use crate::programs::Verdict;
use crate::rig::{Rig, Tabled};

both_families!(
    two_vips_of_one_backend_take_one_client_port,
    a_direct_connection_keeps_its_port_before_a_translated_one,
    a_direct_connection_works_after_a_translated_one,
    a_neighbour_is_dialled_directly_too,
    a_flow_that_has_ended_gives_its_replies_away,
    every_flow_has_replies_of_its_own,
);

/// A rig with VIPs of one and the same backend.
fn rig_with_vips<F: Tabled>(vips: u8) -> Result<Rig<F>> {
    let mut rig = Rig::<F>::new()?;
    for protocol in Protocol::ALL {
        for host in 1..=vips {
            let _: ServiceIndex = rig.service(vip::<F>(host), protocol, &[backend::<F>(1)])?;
        }
        rig.mark(backend::<F>(1), protocol, ServiceIndex::DIRECT)?;
    }
    Ok(rig)
}

/// All that a connection that is open can do, twice.
fn works<F: Tabled>(rig: &Rig<F>, connection: &Connection) -> Result<()> {
    for _ in 0..2 {
        connection.answer(&rig.programs)?;
        connection.prove(&rig.programs)?;
        connection.repeat(&rig.programs)?;
    }
    assert!(connection.is_confirmed(rig)?);
    Ok(())
}

fn two_vips_of_one_backend_take_one_client_port<F: Tabled>() -> Result<()> {
    let rig = rig_with_vips::<F>(2)?;
    let client = client::<F>(12, 40_000);
    for (count, protocol) in (1..).zip(Protocol::ALL) {
        let first = Connection::open(&rig.programs, protocol, client, vip::<F>(1))?;
        let second = Connection::open(&rig.programs, protocol, client, vip::<F>(2))?;
        assert_eq!(first.source, client);
        assert_eq!(second.source.ip(), client.ip());
        assert!(SOURCE_PORTS.contains(&second.source.port()), "{second:?}");
        assert_eq!(rig.count(Reason::SourcePortTranslated)?, count);
        works(&rig, &first)?;
        works(&rig, &second)?;
        works(&rig, &first)?;
    }
    Ok(())
}

fn a_direct_connection_keeps_its_port_before_a_translated_one<F: Tabled>() -> Result<()> {
    let rig = rig_with_vips::<F>(1)?;
    let client = client::<F>(12, 40_000);
    for protocol in Protocol::ALL {
        let direct = Connection::open(&rig.programs, protocol, client, backend::<F>(1))?;
        assert_eq!((direct.source, direct.backend), (client, backend::<F>(1)));
        let translated = Connection::open(&rig.programs, protocol, client, vip::<F>(1))?;
        assert_ne!(translated.source, client);
        works(&rig, &direct)?;
        works(&rig, &translated)?;
        works(&rig, &direct)?;
    }
    Ok(())
}

fn a_direct_connection_works_after_a_translated_one<F: Tabled>() -> Result<()> {
    let rig = rig_with_vips::<F>(1)?;
    let client = client::<F>(12, 40_000);
    for protocol in Protocol::ALL {
        let translated = Connection::open(&rig.programs, protocol, client, vip::<F>(1))?;
        works(&rig, &translated)?;
        let direct = Connection::open(&rig.programs, protocol, client, backend::<F>(1))?;
        assert_eq!(direct.backend, backend::<F>(1));
        assert_ne!(direct.source, client);
        works(&rig, &direct)?;
        works(&rig, &translated)?;
    }
    // Amid a direct connection that is not known, nobody interferes.
    let unknown = proof(Protocol::Tcp, crate::frames::client::<F>(12, 40_009), backend::<F>(1));
    rig.programs.ingress(&unknown)?.is(Verdict::Pass, &unknown)
}

fn a_neighbour_is_dialled_directly_too<F: Tabled>() -> Result<()> {
    const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 9];
    let mut rig = rig_with_vips::<F>(1)?;
    rig.set_device(Device::bridge_port(7, [2, 0, 0, 0, 0, 1]))?;
    let client = client::<F>(12, 40_000);
    let translated = Connection::open(&rig.programs, Protocol::Tcp, client, vip::<F>(1))?;
    works(&rig, &translated)?;
    // On one bridge its frames are for the backend, not for the node.
    let to_neighbour = |mut packet: Packet| {
        packet.link.destination = NEIGHBOUR;
        packet
    };
    let first = to_neighbour(opening(Protocol::Tcp, client, backend::<F>(1)));
    let outcome = rig.programs.ingress(&first)?;
    let source = outcome.packet(Verdict::Pass)?.source_socket().expect("ports");
    assert_ne!(source, client);
    outcome.is(Verdict::Pass, &first.from(source))?;
    let reply = answer(Protocol::Tcp, backend::<F>(1), source);
    rig.programs.egress(&reply)?.is(Verdict::Pass, &reply.clone().to(client))?;
    let next = to_neighbour(proof(Protocol::Tcp, client, backend::<F>(1)));
    rig.programs.ingress(&next)?.is(Verdict::Pass, &next.clone().from(source))?;
    works(&rig, &translated)?;
    // A Service is not served to a neighbour's frame, and the bridge's own is.
    let mut to_vip = opening(Protocol::Tcp, crate::frames::client::<F>(12, 40_001), vip::<F>(1));
    to_vip.link.destination = NEIGHBOUR;
    rig.programs.ingress(&to_vip)?.is(Verdict::Pass, &to_vip)?;
    to_vip.link.destination = [2, 0, 0, 0, 0, 1];
    rig.programs.ingress(&to_vip)?.is(Verdict::Pass, &to_vip.clone().to(backend::<F>(1)))
}

fn a_flow_that_has_ended_gives_its_replies_away<F: Tabled>() -> Result<()> {
    let mut rig = rig_with_vips::<F>(2)?;
    for (confirmed, silence, protocol, port) in [
        (false, 61, Protocol::Tcp, 40_000),
        (false, 61, Protocol::Udp, 40_000),
        (true, 86_401, Protocol::Tcp, 40_001),
        (true, 121, Protocol::Udp, 40_001),
    ] {
        let client = client::<F>(12, port);
        let first = Connection::open(&rig.programs, protocol, client, vip::<F>(1))?;
        if confirmed {
            works(&rig, &first)?;
        }
        rig.age(&first.key::<F>(), silence)?;
        rig.age(&first.reply_key::<F>(), silence)?;
        let second = Connection::open(&rig.programs, protocol, client, vip::<F>(2))?;
        assert_eq!(second.source, client, "{protocol} {confirmed}");
        works(&rig, &second)?;
        // The first one's forward entry is still there, and makes room for its successor; what the
        // second one has taken stays its own.
        let successor = Connection::open(&rig.programs, protocol, client, vip::<F>(1))?;
        assert_ne!(successor.source, client, "{protocol} {confirmed}");
        works(&rig, &second)?;
        works(&rig, &successor)?;
    }
    Ok(())
}

fn every_flow_has_replies_of_its_own<F: Tabled>() -> Result<()> {
    const VIPS: u8 = 200;
    let rig = rig_with_vips::<F>(VIPS)?;
    let client = client::<F>(12, 40_000);
    let mut sources: BTreeSet<SocketAddr> = BTreeSet::new();
    let mut connections = Vec::new();
    for host in 1..=VIPS {
        let connection = Connection::open(&rig.programs, Protocol::Tcp, client, vip::<F>(host))?;
        assert!(sources.insert(connection.source), "{connection:?}");
        connections.push(connection);
    }
    for connection in &connections {
        works(&rig, connection)?;
    }
    let rst = TcpFlags::RST | TcpFlags::ACK;
    for connection in &connections {
        connection.reply(&rig.programs, &tcp(connection.backend, connection.source, rst))?;
    }
    Ok(())
}
