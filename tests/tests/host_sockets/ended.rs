// SPDX-License-Identifier: Apache-2.0

//! Connected UDP sockets whose backends have gone are ended.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::{PATIENCE, WEB};
use proxy_tests::family::{AddressForm, TestFamily};

use super::rig::{PODS, Rig, target};

both_families!(sockets_end_with_their_backends);

/// Somebody who waits for an answer learns at once that none will come, and connects anew. Nobody
/// else notices anything: neither who has a backend that serves, nor a connection.
fn sockets_end_with_their_backends<F: TestFamily>() -> Result<()> {
    let rig = Rig::new()?;
    rig.cluster.serve_web(&PODS[..1])?;
    let mut agent = rig.agent()?;
    for form in AddressForm::all(F::FAMILY) {
        rig.cluster.serve_web(&PODS[..1])?;
        rig.wait_for::<F>(WEB, &PODS[..1])?;
        let client = rig.client().form(*form).patience(PATIENCE);
        let mut ended = client.datagrams(target::<F>(WEB))?;
        ensure!(ended.ask()?.server == PODS[0]);
        let mut stream = client.stay(target::<F>(WEB))?;
        rig.cluster.serve_web(&PODS[..2])?;
        rig.wait_for::<F>(WEB, &PODS[..2])?;
        let mut other = client.datagrams(target::<F>(WEB))?;
        while other.ask()?.server != PODS[1] {
            other = client.datagrams(target::<F>(WEB))?;
        }
        let waiting = ended.socket().try_clone()?;
        let waiter = thread::spawn(move || waiting.recv(&mut [0; 8]));
        // So that it does wait. If it does not yet, it will find the error all the same.
        thread::sleep(Duration::from_millis(100));
        ensure!(!waiter.is_finished(), "{form:?} it has ended too early");
        rig.cluster.serve_web(&PODS[1..2])?;
        let error = waiter.join().ok().context("the thread panicked")?;
        let error = error.err().context("an answer that was not asked for")?;
        ensure!(error.kind() == ErrorKind::ConnectionAborted, "{form:?} {error}");
        ended.connect(target::<F>(WEB))?;
        for socket in [&mut ended, &mut other] {
            let answer = socket.ask()?;
            ensure!(answer.server == PODS[1], "{form:?} {answer:?}");
            ensure!(answer.peer == form.of(target::<F>(WEB)), "{form:?} {answer:?}");
        }
        let _ = stream.exchange()?;
        ensure!(stream.server() == PODS[0]);
    }
    ensure!(agent.stop()?.success());
    Ok(())
}
