// SPDX-License-Identifier: Apache-2.0

//! UDP sockets that name whom they send to, each time.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::{WEB, eventually, web};
use proxy_tests::family::{AddressForm, DualAddress, TestFamily};
use proxy_tests::traffic::{Client, DatagramSocket};

use super::rig::{PODS, Rig, SILENCE, target};

both_families!(senders_keep_their_backends_and_know_who_answers);

/// Services with the second and the third pod as their only backends.
const SINGLES: [DualAddress; 2] = [DualAddress::cluster_ip(20), DualAddress::cluster_ip(21)];
/// A Service with the same backends as [`WEB`].
const TWIN: DualAddress = DualAddress::cluster_ip(22);
/// The first of many such.
const MANY: u8 = 100;
/// More than a socket remembers.
const TOO_MANY: u8 = 40;
/// As many as it remembers.
const REMEMBERED: u8 = 16;

fn senders_keep_their_backends_and_know_who_answers<F: TestFamily>() -> Result<()> {
    let rig = Rig::new()?;
    let manifests = &rig.cluster.manifests;
    for (vip, name) in (MANY..MANY + TOO_MANY).map(|host| (DualAddress::cluster_ip(host), host)) {
        manifests.apply(&web(vip, &format!("web-{name}")).pods(rig.pods(&PODS)))?;
    }
    for (at, vip) in SINGLES.into_iter().enumerate() {
        let service = web(vip, &format!("single-{at}"));
        manifests.apply(&service.pods(rig.pods(&PODS[at + 1..at + 2])))?;
    }
    rig.cluster.serve_web(&PODS)?;
    manifests.apply(&web(TWIN, "twin").pods(rig.pods(&PODS)))?;
    let mut agent = rig.agent()?;
    for form in AddressForm::all(F::FAMILY) {
        let client = rig.client().form(*form);
        two_services_are_told_apart::<F>(&client, *form)?;
        twins_are_told_apart::<F>(&client, *form)?;
        many_services_are_told_apart::<F>(&client, *form)?;
        socket_moves_when_its_backend_goes::<F>(&rig, *form)?;
    }
    for form in AddressForm::all(F::FAMILY) {
        socket_leaves_a_service_that_goes::<F>(&rig, *form)?;
        manifests.apply(&web(TWIN, "twin").pods(rig.pods(&PODS)))?;
        rig.wait_for::<F>(TWIN, &PODS)?;
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Asks several Services before any answers, and returns who answered for each of them.
fn ask_at_once<F: TestFamily>(
    socket: &DatagramSocket,
    form: AddressForm,
    vips: &[DualAddress],
) -> Result<Vec<Option<String>>> {
    for (at, vip) in vips.iter().enumerate() {
        let _ = socket.socket().send_to(&[u8::try_from(at)?], form.of(target::<F>(*vip)))?;
    }
    let mut servers = vec![None; vips.len()];
    for _ in vips {
        let mut answer = [0; 128];
        let (length, from) = socket.socket().recv_from(&mut answer)?;
        let (at, line) = answer[..length].split_last().context("an empty answer")?;
        let at = usize::from(*at);
        if from == form.of(target::<F>(vips[at])) {
            servers[at] = str::from_utf8(line)?.split(' ').next().map(ToOwned::to_owned);
        }
    }
    Ok(servers)
}

fn two_services_are_told_apart<F: TestFamily>(
    client: &Client<'_>,
    form: AddressForm,
) -> Result<()> {
    let socket = client.unconnected(F::FAMILY)?;
    for _ in 0..50 {
        let servers = ask_at_once::<F>(&socket, form, &SINGLES)?;
        let servers: Vec<_> = servers.iter().map(Option::as_deref).collect();
        ensure!(servers == [Some(PODS[1]), Some(PODS[2])], "{form:?} {servers:?}");
    }
    Ok(())
}

/// The answers of a backend that a socket has under two names bear the latter, so that it tries not
/// to have one: of 100 sockets, 25 would without, and 0.4 do on average if it tries four times.
fn twins_are_told_apart<F: TestFamily>(client: &Client<'_>, form: AddressForm) -> Result<()> {
    let mut confused = 0;
    for _ in 0..100 {
        let mut socket = client.unconnected(F::FAMILY)?;
        let servers = ask_at_once::<F>(&socket, form, &[WEB, TWIN])?;
        confused += u32::from(servers.contains(&None));
        for vip in [WEB, TWIN, TWIN, WEB] {
            let answer = socket.ask_at(target::<F>(vip))?;
            ensure!(answer.peer == form.of(target::<F>(vip)), "{form:?} {answer:?}");
        }
    }
    ensure!(confused < 10, "{form:?} {confused} of 100 pairs of answers bear the same name");
    Ok(())
}

fn many_services_are_told_apart<F: TestFamily>(
    client: &Client<'_>,
    form: AddressForm,
) -> Result<()> {
    for (count, is_remembered) in [(REMEMBERED, true), (TOO_MANY, false)] {
        let mut socket = client.unconnected(F::FAMILY)?;
        let mut ask_all = || {
            let vips = (MANY..MANY + count).map(|host| target::<F>(DualAddress::cluster_ip(host)));
            vips.map(|vip| {
                let answer = socket.ask_at(vip)?;
                ensure!(answer.peer == form.of(vip), "{form:?} {vip}: {answer:?}");
                Ok(answer.server)
            })
            .collect::<Result<Vec<_>>>()
        };
        let before = ask_all()?;
        for _ in 0..3 {
            let after = ask_all()?;
            ensure!(!is_remembered || after == before, "{form:?} {before:?} became {after:?}");
        }
    }
    Ok(())
}

/// It keeps its backend while that serves, and then has another with the next datagram.
fn socket_moves_when_its_backend_goes<F: TestFamily>(rig: &Rig, form: AddressForm) -> Result<()> {
    rig.cluster.serve_web(&PODS[..3])?;
    rig.wait_for::<F>(WEB, &PODS[..3])?;
    let mut socket = rig.client().form(form).unconnected(F::FAMILY)?;
    let mut ask = || {
        let answer = socket.ask_at(target::<F>(WEB))?;
        ensure!(answer.peer == form.of(target::<F>(WEB)), "{form:?} {answer:?}");
        Ok(answer.server)
    };
    let mut server = ask()?;
    for others in [&PODS[..], &PODS[..3], &PODS[1..], &PODS[..2], &PODS[2..]] {
        for _ in 0..20 {
            ensure!(ask()? == server, "{form:?} it has left {server}");
        }
        let left: Vec<_> = others.iter().copied().filter(|pod| *pod != server).collect();
        rig.cluster.serve_web(&left)?;
        // Servers stay up, so that none of its datagrams is lost meanwhile.
        let mut asked = Ok(server.clone());
        let moved = eventually(|| {
            asked = ask();
            asked.as_ref().map_or(true, |now| *now != server)
        });
        let now = asked?;
        ensure!(moved, "{form:?} it stays with {server}");
        ensure!(left.contains(&now.as_str()), "{form:?} {now} is none of {left:?}");
        server = now;
    }
    Ok(())
}

/// What it sends to an address that is a Service's no more is not translated, though another
/// Service has the same backends.
fn socket_leaves_a_service_that_goes<F: TestFamily>(rig: &Rig, form: AddressForm) -> Result<()> {
    rig.cluster.serve_web(&PODS)?;
    let mut socket = rig.client().form(form).patience(SILENCE).unconnected(F::FAMILY)?;
    let _ = socket.ask_at(target::<F>(TWIN))?;
    rig.cluster.manifests.remove("twin")?;
    ensure!(eventually(|| socket.ask_at(target::<F>(TWIN)).is_err()), "{form:?} it is still there");
    for _ in 0..3 {
        let answer = socket.ask_at(target::<F>(TWIN));
        let failure = answer.err().with_context(|| format!("{form:?} it came back"))?;
        ensure!(failure.is_timeout(), "{form:?} {failure}");
    }
    ensure!(socket.ask_at(target::<F>(WEB))?.peer == form.of(target::<F>(WEB)));
    Ok(())
}
