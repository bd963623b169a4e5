// SPDX-License-Identifier: Apache-2.0

//! Connections: which backend they get, where their replies go, who is refused.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::model::{Model, Outcome, Strays, Verdict};
use proxy_tests::packet::{Chunk, Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::{backend, client, frontend, model, passed, sent_back};

both_families!(
    flow_keeps_its_first_backend,
    nothing_but_the_destination_changes,
    removed_backend_serves_connections_only,
    flows_with_one_reply_get_two_ports,
    direct_connection_beside_a_flow_gets_another_port,
    pod_reaches_itself_by_a_hairpin,
    new_connections_are_refused,
    strays_pass_or_are_refused,
    bridge_neighbours_are_addressed,
    others_pass_untouched,
);

fn flow_keeps_its_first_backend<F: TestFamily>() -> Result<()> {
    for protocol in Protocol::ALL {
        let mut model = model::<F>();
        let sent = Packet::opening(protocol, client::<F>(1), frontend::<F>(1));
        let outcome = |host| passed(sent.clone().to(backend::<F>(host)));
        assert!(model.clone().from_client(&sent, &outcome(14)).is_err(), "not a backend");
        assert!(model.clone().from_client(&sent, &passed(sent.clone())).is_err());
        assert!(model.clone().from_client(&sent, &outcome(12)).is_ok());
        model.from_client(&sent, &outcome(13))?;
        model.from_client(&sent, &outcome(13))?;
        assert!(model.from_client(&sent, &outcome(12)).is_err(), "another backend");
        assert_eq!(
            model.backend(protocol, client::<F>(1), frontend::<F>(1)),
            Some(backend::<F>(13))
        );

        let reply = Packet::opening(protocol, backend::<F>(13), client::<F>(1));
        model.to_client(&reply, &passed(reply.clone().from(frontend::<F>(1))))?;
        assert!(model.to_client(&reply, &passed(reply.clone())).is_err(), "not translated");
        let other = Packet::opening(protocol, backend::<F>(12), client::<F>(1));
        model.to_client(&other, &passed(other.clone()))?;
        model.expire(protocol, client::<F>(1), frontend::<F>(1));
        model.from_client(&sent, &outcome(12))?;
    }
    Ok(())
}

fn nothing_but_the_destination_changes<F: TestFamily>() -> Result<()> {
    let sent = Packet::opening(Protocol::Udp, client::<F>(1), frontend::<F>(1)).with_options();
    let right = sent.clone().to(backend::<F>(12));
    let changes: [fn(&mut Packet); 7] = [
        |packet| packet.hop_limit -= 1,
        |packet| packet.traffic_class ^= 1,
        |packet| packet.label += 1,
        |packet| packet.options.clear(),
        |packet| packet.link.destination[5] ^= 1,
        |packet| *packet = packet.clone().payload(b"other"),
        |packet| packet.source = "192.0.2.1".parse().expect("an address"),
    ];
    model::<F>().from_client(&sent, &passed(right.clone()))?;
    for change in changes {
        let mut wrong = right.clone();
        change(&mut wrong);
        assert!(model::<F>().from_client(&sent, &passed(wrong)).is_err());
    }
    let wrong = right.clone().from(client::<F>(2));
    assert!(model::<F>().from_client(&sent, &passed(wrong)).is_err(), "another port");
    let dropped = Outcome { verdict: Verdict::Drop, packet: right };
    assert!(model::<F>().from_client(&sent, &dropped).is_err());
    Ok(())
}

fn removed_backend_serves_connections_only<F: TestFamily>() -> Result<()> {
    for protocol in Protocol::ALL {
        let mut model = model::<F>();
        let opening = Packet::opening(protocol, client::<F>(1), frontend::<F>(1));
        model.from_client(&opening, &passed(opening.clone().to(backend::<F>(12))))?;
        model.set_backends(protocol, frontend::<F>(1), [backend::<F>(13)]);
        let (next, serving) = match protocol {
            Protocol::Tcp => {
                let next = Packet::tcp(client::<F>(1), frontend::<F>(1), TcpFlags::ACK);
                (next, backend::<F>(12))
            }
            Protocol::Udp => (opening.clone(), backend::<F>(13)),
            Protocol::Sctp => {
                let (from, to) = (client::<F>(1), frontend::<F>(1));
                (Packet::sctp(from, to, 7, Chunk::DATA, b"text"), backend::<F>(12))
            }
        };
        model.from_client(&next, &passed(next.clone().to(serving)))?;
        model.from_client(&opening, &passed(opening.clone().to(backend::<F>(13))))?;
    }
    Ok(())
}

fn flows_with_one_reply_get_two_ports<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    for host in [1, 2] {
        model.set_backends(Protocol::Tcp, frontend::<F>(host), [backend::<F>(12)]);
    }
    let syn = |host| Packet::opening(Protocol::Tcp, client::<F>(1), frontend::<F>(host));
    let translated = |host: u8| syn(host).to(backend::<F>(12));
    model.from_client(&syn(1), &passed(translated(1)))?;
    assert!(model.from_client(&syn(2), &passed(translated(2))).is_err(), "the same reply");
    model.from_client(&syn(2), &passed(translated(2).from(client::<F>(9))))?;
    model.from_client(&syn(2), &passed(translated(2).from(client::<F>(9))))?;
    for (host, port) in [(1, 1), (2, 9)] {
        let reply = Packet::opening(Protocol::Tcp, backend::<F>(12), client::<F>(port));
        let seen = reply.clone().from(frontend::<F>(host)).to(client::<F>(1));
        model.to_client(&reply, &passed(seen))?;
    }
    Ok(())
}

fn direct_connection_beside_a_flow_gets_another_port<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    let syn = Packet::opening(Protocol::Tcp, client::<F>(1), frontend::<F>(1));
    model.from_client(&syn, &passed(syn.clone().to(backend::<F>(12))))?;
    let free = Packet::opening(Protocol::Tcp, client::<F>(1), backend::<F>(13));
    model.from_client(&free, &passed(free.clone()))?;
    let taken = Packet::opening(Protocol::Tcp, client::<F>(1), backend::<F>(12));
    assert!(model.from_client(&taken, &passed(taken.clone())).is_err());
    model.from_client(&taken, &passed(taken.clone().from(client::<F>(9))))?;
    let reply = Packet::opening(Protocol::Tcp, backend::<F>(12), client::<F>(9));
    model.to_client(&reply, &passed(reply.clone().to(client::<F>(1))))
}

fn pod_reaches_itself_by_a_hairpin<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    model.add_hairpin_source(F::pod(1, 1));
    let host: SocketAddr = (F::pod(1, 1), 33_000).into();
    let pod: SocketAddr = (F::pod(1, 12), 1).into();
    let sent = Packet::opening(Protocol::Tcp, pod, frontend::<F>(1));
    let translated = sent.clone().to(backend::<F>(12)).from(host);
    assert!(model.from_client(&sent, &passed(translated.clone())).is_err());
    assert!(model.from_client(&sent, &sent_back(translated.clone().from(pod))).is_err());
    model.from_client(&sent, &sent_back(translated))?;
    let reply = Packet::opening(Protocol::Tcp, backend::<F>(12), host);
    let seen = reply.clone().from(frontend::<F>(1)).to(pod);
    model.from_client(&reply, &sent_back(seen))
}

fn new_connections_are_refused<F: TestFamily>() -> Result<()> {
    for protocol in Protocol::ALL {
        let mut model = model::<F>();
        model.set_backends(protocol, frontend::<F>(1), []);
        let wrong_port: SocketAddr = (F::cluster_ip(1), 81).into();
        for target in [frontend::<F>(1), wrong_port] {
            let sent = Packet::opening(protocol, client::<F>(1), target);
            let answer = match protocol {
                Protocol::Tcp => {
                    let flags = TcpFlags::RST | TcpFlags::ACK;
                    Packet::tcp(target, client::<F>(1), flags).numbers(0, 1001)
                }
                Protocol::Udp => Packet::port_unreachable(target.ip(), &sent)?,
                Protocol::Sctp => Packet::sctp(target, client::<F>(1), 1000, Chunk::ABORT, &[]),
            };
            model.from_client(&sent, &sent_back(answer.clone()))?;
            assert!(model.from_client(&sent, &passed(sent.clone())).is_err());
            let mut elsewhere = answer.clone();
            elsewhere.source = F::pod(1, 1);
            assert!(model.from_client(&sent, &sent_back(elsewhere)).is_err());
            let wrong = match protocol {
                Protocol::Tcp => answer.numbers(0, 1000),
                Protocol::Udp => answer.payload(b"another quote"),
                Protocol::Sctp => Packet::sctp(target, client::<F>(1), 1001, Chunk::ABORT, &[]),
            };
            assert!(model.from_client(&sent, &sent_back(wrong)).is_err());
        }
    }
    Ok(())
}

fn strays_pass_or_are_refused<F: TestFamily>() -> Result<()> {
    let stray = Packet::tcp(client::<F>(1), frontend::<F>(1), TcpFlags::ACK).numbers(5, 7);
    let reset = Packet::tcp(frontend::<F>(1), client::<F>(1), TcpFlags::RST).numbers(7, 0);
    model::<F>().from_client(&stray, &sent_back(reset.clone()))?;
    assert!(model::<F>().from_client(&stray, &passed(stray.clone())).is_err());
    let mut migrating = Model::new(Strays::Pass);
    migrating.set_backends(Protocol::Tcp, frontend::<F>(1), [backend::<F>(12)]);
    migrating.from_client(&stray, &passed(stray.clone()))?;
    assert!(migrating.from_client(&stray, &sent_back(reset)).is_err());
    let reset = Packet::tcp(client::<F>(1), frontend::<F>(1), TcpFlags::RST);
    model::<F>().from_client(&reset, &passed(reset.clone()))?;
    assert!(model::<F>().from_client(&reset, &sent_back(reset.clone())).is_err());
    Ok(())
}

fn bridge_neighbours_are_addressed<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    model.add_bridge_neighbour(backend::<F>(12).ip(), [2, 0, 0, 0, 1, 12]);
    let sent = Packet::opening(Protocol::Tcp, client::<F>(1), frontend::<F>(1));
    let mut translated = sent.clone().to(backend::<F>(12));
    assert!(model.from_client(&sent, &passed(translated.clone())).is_err());
    translated.link.destination = [2, 0, 0, 0, 1, 12];
    model.from_client(&sent, &passed(translated))
}

fn others_pass_untouched<F: TestFamily>() -> Result<()> {
    let mut tagged = Packet::opening(Protocol::Tcp, client::<F>(1), frontend::<F>(1));
    tagged.link.vlan = Some(3);
    let mut authenticated = Packet::opening(Protocol::Udp, client::<F>(1), frontend::<F>(1));
    authenticated.authentication = true;
    let direct = Packet::opening(Protocol::Tcp, client::<F>(1), backend::<F>(12));
    for sent in [tagged, authenticated, direct] {
        model::<F>().from_client(&sent, &passed(sent.clone()))?;
        let translated = sent.clone().to(backend::<F>(13));
        assert!(model::<F>().from_client(&sent, &passed(translated)).is_err());
    }
    Ok(())
}
