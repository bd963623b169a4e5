// SPDX-License-Identifier: Apache-2.0

//! Flows end by silence, whether or not somebody collects them, and the two
//! entries of a flow keep each other alive.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::packet::TcpFlags;
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{ack, backend, client, tcp, vip};
use crate::programs::Verdict;
use crate::rig::{Rig, Tabled};

both_families!(
    a_lost_reply_entry_comes_back_with_a_repeated_packet,
    a_lost_forward_entry_comes_back_with_a_reply,
    either_direction_keeps_both_alive,
    a_silent_flow_is_over,
    the_end_of_a_connection_shortens_its_time,
);

/// A rig with a Service port of one backend for each protocol.
fn rig_with_services<F: Tabled>() -> Result<(Rig<F>, Vec<ServiceIndex>)> {
    let mut rig = Rig::<F>::new()?;
    let services = Protocol::ALL
        .iter()
        .map(|protocol| rig.service(vip::<F>(1), *protocol, &[backend::<F>(1)]))
        .collect::<Result<_>>()?;
    Ok((rig, services))
}

fn a_lost_reply_entry_comes_back_with_a_repeated_packet<F: Tabled>() -> Result<()> {
    let (mut rig, _) = rig_with_services::<F>()?;
    let connection =
        Connection::open(&rig.programs, Protocol::Tcp, client::<F>(12, 40_000), vip::<F>(1))?;
    rig.tables.remove_flow(&connection.reply_key::<F>())?;
    connection.repeat(&rig.programs)?;
    connection.answer(&rig.programs)?;
    connection.prove(&rig.programs)?;
    assert!(connection.is_confirmed(&rig)?);
    // A confirmed one, and datagrams, within a second.
    for protocol in Protocol::ALL {
        let connection =
            Connection::establish(&rig.programs, protocol, client::<F>(12, 40_001), vip::<F>(1))?;
        rig.tables.remove_flow(&connection.reply_key::<F>())?;
        rig.age(&connection.key::<F>(), 2)?;
        connection.prove(&rig.programs)?;
        connection.answer(&rig.programs)?;
        assert!(connection.is_confirmed(&rig)?);
    }
    // And one that ends at once.
    let connection =
        Connection::establish(&rig.programs, Protocol::Tcp, client::<F>(12, 40_002), vip::<F>(1))?;
    rig.tables.remove_flow(&connection.reply_key::<F>())?;
    let end = tcp(connection.client, connection.frontend, TcpFlags::FIN | TcpFlags::ACK);
    connection.request(&rig.programs, &end)?;
    assert!(connection.is_confirmed(&rig)?);
    Ok(())
}

fn a_lost_forward_entry_comes_back_with_a_reply<F: Tabled>() -> Result<()> {
    let (mut rig, _) = rig_with_services::<F>()?;
    let connection =
        Connection::open(&rig.programs, Protocol::Tcp, client::<F>(12, 40_000), vip::<F>(1))?;
    rig.tables.remove_flow(&connection.key::<F>())?;
    connection.answer(&rig.programs)?;
    connection.prove(&rig.programs)?;
    assert!(connection.is_confirmed(&rig)?);
    for protocol in Protocol::ALL {
        let connection =
            Connection::establish(&rig.programs, protocol, client::<F>(12, 40_001), vip::<F>(1))?;
        rig.tables.remove_flow(&connection.key::<F>())?;
        rig.age(&connection.reply_key::<F>(), 2)?;
        connection.answer(&rig.programs)?;
        assert!(connection.is_confirmed(&rig)?);
        connection.prove(&rig.programs)?;
    }
    Ok(())
}

fn either_direction_keeps_both_alive<F: Tabled>() -> Result<()> {
    let (mut rig, _) = rig_with_services::<F>()?;
    for protocol in Protocol::ALL {
        let connection =
            Connection::establish(&rig.programs, protocol, client::<F>(12, 40_000), vip::<F>(1))?;
        let (key, reply_key) = (connection.key::<F>(), connection.reply_key::<F>());
        for from_client in [true, false] {
            // Each time half of a UDP flow's time, more than it has in all.
            rig.age(&key, 90)?;
            rig.age(&reply_key, 90)?;
            if from_client {
                connection.prove(&rig.programs)?;
            } else {
                connection.answer(&rig.programs)?;
            }
            let forward = rig.tables.flow(&key)?.map(|flow| flow.last_seen);
            let reply = rig.tables.flow(&reply_key)?.map(|flow| flow.last_seen);
            assert_eq!(forward, reply);
        }
        connection.prove(&rig.programs)?;
        connection.answer(&rig.programs)?;
    }
    Ok(())
}

fn a_silent_flow_is_over<F: Tabled>() -> Result<()> {
    let (mut rig, services) = rig_with_services::<F>()?;
    let silences = [(false, 59, 61), (true, 86_398, 86_401), (false, 59, 61), (true, 119, 121)];
    let cases = [Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Udp];
    for ((port, protocol), (confirmed, alive, over)) in (40_000..).zip(cases).zip(silences) {
        let service = services[usize::from(protocol == Protocol::Udp)];
        let set = rig.backend_set(&[backend::<F>(1)])?;
        rig.tables.publish_cluster(service, set)?;
        let connection =
            Connection::open(&rig.programs, protocol, client::<F>(12, port), vip::<F>(1))?;
        if confirmed {
            connection.answer(&rig.programs)?;
            connection.prove(&rig.programs)?;
        }
        let age = |rig: &mut Rig<F>, seconds| {
            rig.age(&connection.key::<F>(), seconds)?;
            rig.age(&connection.reply_key::<F>(), seconds)
        };
        let set = rig.backend_set(&[backend::<F>(2)])?;
        rig.tables.publish_cluster(service, set)?;
        age(&mut rig, alive)?;
        connection.repeat(&rig.programs)?;
        age(&mut rig, over)?;
        // The reply is nobody's, what comes amid it is refused, and what
        // opens a flow opens another one.
        let late = crate::frames::answer(protocol, connection.backend, connection.client);
        rig.programs.egress(&late)?.is(Verdict::Pass, &late)?;
        if protocol == Protocol::Tcp {
            let late = ack(connection.client, connection.frontend);
            assert_eq!(rig.programs.ingress(&late)?.verdict, Verdict::Redirect);
        }
        let next =
            Connection::establish(&rig.programs, protocol, connection.client, connection.frontend)?;
        assert_eq!(next.backend, backend::<F>(2));
        assert!(next.is_confirmed(&rig)?);
    }
    Ok(())
}

/// What both sides have said before they fall silent.
#[derive(Clone, Copy)]
struct LastWords {
    from_client: &'static [TcpFlags],
    from_backend: &'static [TcpFlags],
}

fn the_end_of_a_connection_shortens_its_time<F: Tabled>() -> Result<()> {
    const ACK: &[TcpFlags] = &[TcpFlags::ACK];
    const FIN: &[TcpFlags] = &[TcpFlags::FIN];
    const RST: &[TcpFlags] = &[TcpFlags::RST];
    let (mut rig, _) = rig_with_services::<F>()?;
    let cases = [
        (ACK, ACK, 86_400),
        (RST, ACK, 86_400),
        (RST, &[][..], 10),
        (&[][..], RST, 10),
        (FIN, ACK, 3_600),
        (ACK, FIN, 3_600),
        (FIN, FIN, 120),
        // Forged RSTs: the sender goes on.
        (&[TcpFlags::RST, TcpFlags::ACK], ACK, 86_400),
        (ACK, &[TcpFlags::RST, TcpFlags::ACK], 86_400),
        (&[TcpFlags::FIN, TcpFlags::RST, TcpFlags::ACK], ACK, 3_600),
    ];
    for (port, (from_client, from_backend, seconds)) in (40_000..).zip(cases) {
        let words = LastWords { from_client, from_backend };
        for (is_over, after) in [(false, seconds - 2), (true, seconds + 1)] {
            for from_client in [true, false] {
                let port = port + 100 * u16::from(is_over) + 1000 * u16::from(from_client);
                falls_silent(&mut rig, client::<F>(12, port), words, after)?;
                let connection = Connection {
                    protocol: Protocol::Tcp,
                    client: client::<F>(12, port),
                    source: client::<F>(12, port),
                    frontend: vip::<F>(1),
                    backend: backend::<F>(1),
                };
                let (request, reply) = (
                    ack(connection.client, connection.frontend),
                    tcp(connection.backend, connection.client, TcpFlags::ACK),
                );
                match (is_over, from_client) {
                    (false, true) => connection.request(&rig.programs, &request)?,
                    (false, false) => connection.reply(&rig.programs, &reply)?,
                    (true, true) => {
                        let outcome = rig.programs.ingress(&request)?;
                        assert_eq!(outcome.verdict, Verdict::Redirect, "{port}: not refused");
                    }
                    (true, false) => rig.programs.egress(&reply)?.is(Verdict::Pass, &reply)?,
                }
            }
        }
    }
    Ok(())
}

/// Establishes a connection, lets both sides say something, and then nothing for so many seconds.
fn falls_silent<F: Tabled>(
    rig: &mut Rig<F>,
    client: SocketAddr,
    words: LastWords,
    seconds: u32,
) -> Result<()> {
    let connection = Connection::establish(&rig.programs, Protocol::Tcp, client, vip::<F>(1))?;
    for flags in words.from_client {
        let segment = tcp(client, connection.frontend, *flags | TcpFlags::ACK);
        connection.request(&rig.programs, &segment)?;
    }
    for flags in words.from_backend {
        let segment = tcp(connection.backend, client, *flags | TcpFlags::ACK);
        connection.reply(&rig.programs, &segment)?;
    }
    for key in [connection.key::<F>(), connection.reply_key::<F>()] {
        rig.age(&key, seconds)?;
    }
    Ok(())
}
