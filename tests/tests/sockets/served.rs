// SPDX-License-Identifier: Apache-2.0

//! Processes of a node reach Services at their sockets, under each kernel. Both families have one
//! agent: in guests, its programs take long to be verified.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::family::{AddressForm, TestFamily, V4, V6};
use proxy_tests::protocol::Protocol;
use proxy_tests::traffic::Client;

use super::rig::{PODS, Rig, web};

/// Longer than the agent takes to follow a change.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn all_kinds_of_sockets_are_served_and_end_when_they_are_left() -> Result<()> {
    let rig = Rig::new(&PODS)?;
    let mut agent = rig.agent().start()?;
    let _servers = rig.servers()?;
    all_kinds_are_served::<V4>(&rig)?;
    all_kinds_are_served::<V6>(&rig)?;
    those_that_are_left_end::<V4>(&rig)?;
    those_that_are_left_end::<V6>(&rig)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn all_kinds_are_served<F: TestFamily>(rig: &Rig) -> Result<()> {
    for form in AddressForm::all(F::FAMILY) {
        let (client, target) = (Client::new(rig.node()).form(*form), web::<F>());
        let seen = form.of(target);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let answer = client
                .ask(protocol, target)
                .with_context(|| format!("{} {form:?}", protocol.name()))?;
            ensure!(answer.peer == seen, "{} {form:?}: {answer:?}", protocol.name());
        }
        let mut socket = client.unconnected(F::FAMILY)?;
        let answer = socket.ask_at(target).with_context(|| format!("unconnected {form:?}"))?;
        ensure!(answer.peer == seen, "unconnected {form:?}: {answer:?}");
    }
    Ok(())
}

fn those_that_are_left_end<F: TestFamily>(rig: &Rig) -> Result<()> {
    let [first, second] = PODS;
    let client = Client::new(rig.node());
    rig.follows::<F>(first)?;
    let mut socket = client.datagrams(web::<F>())?;
    ensure!(socket.ask()?.server == first);
    rig.serve(&[second])?;
    let deadline = Instant::now() + PATIENCE;
    while socket.ask().is_ok() {
        ensure!(Instant::now() < deadline, "the socket goes on");
        thread::sleep(Duration::from_millis(10));
    }
    ensure!(client.ask(Protocol::Udp, web::<F>())?.server == second);
    Ok(())
}
