// SPDX-License-Identifier: Apache-2.0

//! Processes that ask all the time, while endpoints come and go.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::WEB;
use proxy_tests::family::TestFamily;
use proxy_tests::traffic::{Answer, Client, Failure};

use super::rig::{PODS, Rig, Way, target};
use super::stops::{is_over, is_running};

both_families!(neither_scaling_nor_a_sudden_end_breaks_anything);

/// How long a number of endpoints stays.
const PAUSE: Duration = Duration::from_millis(100);
/// What each process asks at least meanwhile: a tenth of what it does on a machine that is busy.
const ENOUGH: u32 = 100;

/// Asks until it is told to stop, and counts. A connected UDP socket whose backend goes is ended, and
/// asks anew, as resolvers do.
fn ask_on<F: TestFamily>(
    stopped: &AtomicBool,
    mut ask: impl FnMut() -> Result<Answer, Failure>,
) -> Result<u32> {
    let mut asked = 0;
    while !stopped.load(Ordering::Relaxed) {
        let answer = match ask() {
            Err(failure) if failure.error.kind() == ErrorKind::ConnectionAborted => continue,
            answer => answer.with_context(|| format!("question {asked}"))?,
        };
        ensure!(answer.peer == target::<F>(WEB), "question {asked}: {answer:?}");
        asked += 1;
    }
    Ok(asked)
}

/// Servers stay up when they are endpoints no more, as those of pods that are ending do.
fn neither_scaling_nor_a_sudden_end_breaks_anything<F: TestFamily>() -> Result<()> {
    let rig = Rig::new()?;
    rig.cluster.serve_web(&PODS[..3])?;
    let mut agent = rig.agent()?;
    let stopped = AtomicBool::new(false);
    let client: Client<'_> = rig.client();
    let mut staying = client.unconnected(F::FAMILY)?;
    let asked = thread::scope(|scope| {
        let stopped = &stopped;
        let mut asking = Vec::new();
        for way in Way::ALL {
            let ask = move || way.ask(&client, target::<F>(WEB));
            asking.push((format!("{way:?}"), scope.spawn(move || ask_on::<F>(stopped, ask))));
        }
        let ask = move || staying.ask_at(target::<F>(WEB));
        asking.push(("one socket".to_owned(), scope.spawn(move || ask_on::<F>(stopped, ask))));
        let scaled = (0..10).try_for_each(|round| {
            let pods = if round % 2 == 0 { &PODS[round % 3..=round % 3] } else { &PODS[..3] };
            rig.cluster.serve_web(pods)?;
            thread::sleep(PAUSE);
            anyhow::Ok(())
        });
        stopped.store(true, Ordering::Relaxed);
        let mut asked = Vec::new();
        for (who, asking) in asking {
            let count = asking.join().ok().context("a thread panicked")?;
            asked.push((who.clone(), count.context(who)?));
        }
        scaled.map(|()| asked)
    })?;
    eprintln!("questions while endpoints came and went: {asked:?}");
    ensure!(asked.iter().all(|(_, count)| *count >= ENOUGH), "too few questions: {asked:?}");
    // Else nothing would have changed at all.
    rig.wait_for::<F>(WEB, &PODS[..3])?;
    let mut stream = client.stay(target::<F>(WEB))?;
    agent.kill();
    is_running(&rig)?;
    let _: String = agent.cleanup()?;
    is_over::<F>(&rig, &mut stream)
}
