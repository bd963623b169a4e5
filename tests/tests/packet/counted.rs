// SPDX-License-Identifier: Apache-2.0

//! What is counted of Service ports: each packet once, whichever way it takes through the programs.

use anyhow::Result;
use proxy_common::Port;
use proxy_common::frontend::ServiceIndex;
use proxy_common::name::{ServiceName, label};
use proxy_common::service::BackendSet;
use proxy_common::traffic::{Traffic, Volume};
use proxy_tests::both_families;
use proxy_tests::packet::Packet;
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{answer, backend, client, opening, proof, tcp, udp, vip};
use crate::programs::Verdict;
use crate::rig::{Rig, Tabled};
use proxy_tests::packet::TcpFlags;

both_families!(
    each_packet_is_counted_once,
    what_ends_is_counted_of_its_service,
    another_service_begins_anew,
    what_is_no_services_is_not_counted,
);

/// What packets are.
fn volume(packets: &[Packet]) -> Result<Volume> {
    let lengths = packets.iter().map(|packet| Ok(packet.build()?.len()));
    let bytes = lengths.sum::<Result<usize>>()?;
    Ok(Volume { packets: u64::try_from(packets.len())?, bytes: u64::try_from(bytes)? })
}

fn each_packet_is_counted_once<F: Tabled>() -> Result<()> {
    // By the short way, and by the long one.
    for takes_long_way in [false, true] {
        for protocol in Protocol::ALL {
            let mut rig = Rig::<F>::new()?;
            let index = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
            // Between them come others', whose Service is another one.
            let _: ServiceIndex = rig.service(vip::<F>(2), protocol, &[backend::<F>(2)])?;
            let other = |port| {
                Connection::open(&rig.programs, protocol, self::client::<F>(13, port), vip::<F>(2))
            };
            let by = |packet: Packet| if takes_long_way { packet.with_options() } else { packet };
            let (client, frontend) = (client::<F>(12, 40_000), vip::<F>(1));
            let connection =
                Connection { protocol, client, source: client, frontend, backend: backend::<F>(1) };
            let mut requests = vec![by(opening(protocol, client, frontend))];
            let mut replies = vec![by(answer(protocol, connection.backend, client))];
            connection.request(&rig.programs, &requests[0])?;
            let _ = other(1)?;
            connection.reply(&rig.programs, &replies[0])?;
            let _ = other(2)?;
            requests.push(by(proof(protocol, client, frontend)));
            connection.request(&rig.programs, &requests[1])?;
            for length in [1, 100] {
                let _ = other(2 + u16::try_from(length)?)?;
                let payload = vec![7; length];
                let packet = |from, to| match protocol {
                    Protocol::Udp => by(udp(from, to, &payload)),
                    _ => by(proof(protocol, from, to)),
                };
                requests.push(packet(client, frontend));
                connection.request(&rig.programs, requests.last().expect("the one"))?;
                if protocol == Protocol::Tcp {
                    let packet =
                        by(tcp(connection.backend, client, TcpFlags::ACK).payload(&payload));
                    connection.reply(&rig.programs, &packet)?;
                    replies.push(packet);
                }
            }
            let expected = Traffic {
                volumes: [volume(&requests)?, volume(&replies)?],
                flows: 1,
                ..Traffic::default()
            };
            let counted = rig.tables.traffic(index)?;
            assert_eq!(counted, Some(expected), "{protocol} {takes_long_way}");
        }
    }
    Ok(())
}

fn what_ends_is_counted_of_its_service<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let served = rig.service(vip::<F>(1), Protocol::Udp, &[backend::<F>(1)])?;
    let refusing = rig.service(vip::<F>(2), Protocol::Udp, &[])?;
    let dropping = rig.service(vip::<F>(3), Protocol::Udp, &[])?;
    rig.tables.publish_cluster(dropping, BackendSet::DROP)?;
    for (host, times) in [(2, 3), (3, 5)] {
        for _ in 0..times {
            let _ = rig.programs.ingress(&udp(client::<F>(12, 40_000), vip::<F>(host), b"x"))?;
        }
    }
    let of = |index| rig.tables.traffic(index);
    assert_eq!(of(served)?, Some(Traffic::default()));
    assert_eq!(of(refusing)?, Some(Traffic { rejected: 3, ..Traffic::default() }));
    assert_eq!(of(dropping)?, Some(Traffic { dropped: 5, ..Traffic::default() }));
    // Amid a connection that is not known.
    let tcp_port = rig.service(vip::<F>(4), Protocol::Tcp, &[backend::<F>(1)])?;
    let amid = tcp(client::<F>(12, 40_000), vip::<F>(4), TcpFlags::ACK);
    assert_eq!(rig.programs.ingress(&amid)?.verdict, Verdict::Redirect);
    let rejected = Some(Traffic { rejected: 1, ..Traffic::default() });
    assert_eq!(rig.tables.traffic(tcp_port)?, rejected);
    Ok(())
}

fn another_service_begins_anew<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let index = rig.service(vip::<F>(1), Protocol::Udp, &[backend::<F>(1)])?;
    let connection =
        Connection::establish(&rig.programs, Protocol::Udp, client::<F>(12, 40_000), vip::<F>(1))?;
    assert_eq!(rig.traffic()?.flows, 1);
    let name = ServiceName {
        namespace: label("default"),
        name: label("other"),
        port: label(""),
        protocol: proxy_common::Protocol::UDP,
        number: Port::new(80),
    };
    rig.tables.put_name(index, name)?;
    assert_eq!(rig.traffic()?, Traffic::default());
    connection.repeat(&rig.programs)?;
    assert_eq!(rig.traffic()?.volumes[Traffic::REQUESTS].packets, 1);
    Ok(())
}

/// Of direct connections, and of what passes.
fn what_is_no_services_is_not_counted<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let index = rig.service(vip::<F>(1), Protocol::Tcp, &[backend::<F>(1)])?;
    rig.mark(backend::<F>(1), Protocol::Tcp, ServiceIndex::DIRECT)?;
    for (destination, protocol) in [(backend::<F>(1), Protocol::Tcp), (vip::<F>(9), Protocol::Udp)]
    {
        let packet = opening(protocol, client::<F>(12, 40_000), destination);
        rig.programs.ingress(&packet)?.is(Verdict::Pass, &packet)?;
    }
    assert_eq!(rig.tables.traffic(index)?, Some(Traffic::default()));
    // Beyond those that are counted there is nothing.
    assert_eq!(rig.tables.traffic(ServiceIndex(u32::MAX))?, None);
    Ok(())
}
