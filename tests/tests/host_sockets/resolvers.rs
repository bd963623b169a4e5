// SPDX-License-Identifier: Apache-2.0

//! Connected UDP sockets, as resolvers use them.

use std::net::UdpSocket;

use anyhow::{Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::{TARGET, WEB, web};
use proxy_tests::family::{AddressForm, DualAddress, TestFamily};
use proxy_tests::traffic::DatagramSocket;

use super::rig::{PODS, Rig, Way, target};

both_families!(connected_sockets_keep_their_backends);

/// A Service with one backend.
const SINGLE: DualAddress = DualAddress::cluster_ip(20);
/// A port that a socket may be bound to again and again.
const SOURCE_PORT: u16 = 40_053;

fn connected_sockets_keep_their_backends<F: TestFamily>() -> Result<()> {
    let rig = Rig::new()?;
    rig.cluster.serve_web(&PODS)?;
    rig.cluster.manifests.apply(&web(SINGLE, "single").pods(rig.pods(&PODS[1..2])))?;
    let mut agent = rig.agent()?;
    for form in AddressForm::all(F::FAMILY) {
        socket_is_connected_anew::<F>(&rig, *form)?;
        socket_names_its_peer::<F>(&rig, *form)?;
        socket_leaves_services::<F>(&rig, *form)?;
        ports_are_used_again::<F>(&rig, *form)?;
        questions_are_asked_at_once::<F>(&rig, *form)?;
        others_come_and_go::<F>(&rig, *form)?;
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Connected to the same once more, it has the same backend; and to another, that one's.
fn socket_is_connected_anew<F: TestFamily>(rig: &Rig, form: AddressForm) -> Result<()> {
    let client = rig.client().form(form);
    let mut socket = client.datagrams(target::<F>(WEB))?;
    for _ in 0..5 {
        let server = socket.ask()?.server;
        for _ in 0..10 {
            socket.connect(target::<F>(WEB))?;
            let answer = socket.ask()?;
            ensure!(answer.server == server, "{form:?} {server} became {}", answer.server);
            ensure!(answer.peer == form.of(target::<F>(WEB)), "{form:?} {answer:?}");
        }
        socket.connect(target::<F>(SINGLE))?;
        let answer = socket.ask()?;
        ensure!(answer.server == PODS[1], "{form:?} {answer:?}");
        ensure!(answer.peer == form.of(target::<F>(SINGLE)), "{form:?} {answer:?}");
        ensure!(socket.peer()? == answer.peer, "{form:?} {:?}", socket.peer());
        socket.connect(target::<F>(WEB))?;
    }
    Ok(())
}

/// It hears only whom it is connected to: a datagram to the same Service by name goes there, too.
/// Named first and connected to later, the Service gives it the same backend.
fn socket_names_its_peer<F: TestFamily>(rig: &Rig, form: AddressForm) -> Result<()> {
    let client = rig.client().form(form);
    for _ in 0..5 {
        let mut named_later = client.datagrams(target::<F>(WEB))?;
        let mut named_first = client.unconnected(F::FAMILY)?;
        let later = named_later.ask()?.server;
        let first = named_first.ask_at(target::<F>(WEB))?.server;
        named_first.connect(target::<F>(WEB))?;
        for _ in 0..5 {
            for (socket, server) in [(&mut named_later, &later), (&mut named_first, &first)] {
                let answers = [socket.ask()?, socket.ask_at(target::<F>(WEB))?];
                let same = answers.iter().all(|answer| answer.server == *server);
                ensure!(same, "{form:?} {server} became one of {answers:?}");
            }
        }
    }
    Ok(())
}

/// A socket that is connected to nobody any more sees by their own addresses whom it asks by these.
fn socket_leaves_services<F: TestFamily>(rig: &Rig, form: AddressForm) -> Result<()> {
    let mut socket = rig.client().form(form).datagrams(target::<F>(SINGLE))?;
    let own = rig.pod(PODS[1]).socket::<F>(TARGET);
    ensure!(socket.ask()?.peer == form.of(target::<F>(SINGLE)));
    rustix::net::connect_unspec(socket.socket())?;
    ensure!(socket.peer().is_err(), "{form:?} it is connected still");
    for expected in [own, target::<F>(SINGLE), own, target::<F>(SINGLE)] {
        let answer = socket.ask_at(expected)?;
        ensure!(answer.peer == form.of(expected), "{form:?} {expected}: {answer:?}");
    }
    socket.connect(own)?;
    ensure!(socket.ask()?.peer == form.of(own), "{form:?} it sees whom it asked before");
    Ok(())
}

/// A socket knows nothing of the one that had its port before.
fn ports_are_used_again<F: TestFamily>(rig: &Rig, form: AddressForm) -> Result<()> {
    let client = rig.client().form(form).source_port(SOURCE_PORT);
    for way in Way::ALL {
        for _ in 0..10 {
            for vip in [WEB, WEB, SINGLE] {
                let answer = way.ask(&client, target::<F>(vip))?;
                ensure!(answer.peer == form.of(target::<F>(vip)), "{form:?} {way:?} {answer:?}");
                ensure!(answer.source.port() == SOURCE_PORT, "{form:?} {way:?} {answer:?}");
                ensure!(vip == WEB || answer.server == PODS[1], "{form:?} {way:?} {answer:?}");
            }
        }
    }
    Ok(())
}

/// Both addresses of a name, by one socket: the second question does not wait for the answer to the
/// first.
fn questions_are_asked_at_once<F: TestFamily>(rig: &Rig, form: AddressForm) -> Result<()> {
    let socket: UdpSocket = rig.client().form(form).udp_socket(target::<F>(WEB))?;
    for _ in 0..20 {
        let _ = (socket.send(b"A")?, socket.send(b"AAAA")?);
        let mut servers = Vec::new();
        for question in ["A", "AAAA"] {
            let mut answer = [0; 128];
            let (length, from) = socket.recv_from(&mut answer)?;
            let answer = str::from_utf8(&answer[..length])?;
            ensure!(from == form.of(target::<F>(WEB)), "{form:?} {from}");
            ensure!(answer.ends_with(&format!("\n{question}")), "{form:?} {answer}");
            servers.push(answer.split(' ').next().map(ToOwned::to_owned));
        }
        ensure!(servers[0] == servers[1], "{form:?} {servers:?}");
    }
    Ok(())
}

/// The other backends change, and not the socket's.
fn others_come_and_go<F: TestFamily>(rig: &Rig, form: AddressForm) -> Result<()> {
    let mut socket = rig.client().form(form).datagrams(target::<F>(WEB))?;
    let server = socket.ask()?.server;
    let asks = |socket: &mut DatagramSocket| {
        for _ in 0..20 {
            let answer = socket.ask()?;
            ensure!(answer.server == server, "{form:?} {server} became {}", answer.server);
            ensure!(answer.peer == form.of(target::<F>(WEB)), "{form:?} {answer:?}");
        }
        Ok(())
    };
    let others: Vec<_> = PODS.into_iter().filter(|pod| *pod != server).collect();
    for count in [0, 2, 1, 3] {
        let mut pods = others[..count].to_vec();
        pods.push(&server);
        pods.sort_unstable();
        rig.cluster.serve_web(&pods)?;
        rig.wait_for::<F>(WEB, &pods)?;
        asks(&mut socket)?;
    }
    Ok(())
}
