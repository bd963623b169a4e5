// SPDX-License-Identifier: Apache-2.0

//! Processes that ask all the time, while endpoints come and go.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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
/// How often it changes at least.
const ROUNDS: usize = 10;
/// What each process asks at least meanwhile.
const ENOUGH: u32 = 100;
/// How long that may take, on a machine that does other things, too.
const LIMIT: Duration = Duration::from_mins(1);

/// Asks until it is told to stop, and counts. A connected UDP socket whose backend goes is ended, and
/// asks anew, as resolvers do.
fn ask_on<F: TestFamily>(
    stopped: &AtomicBool,
    asked: &AtomicU32,
    mut ask: impl FnMut() -> Result<Answer, Failure>,
) -> Result<()> {
    while !stopped.load(Ordering::Relaxed) {
        let answer = match ask() {
            Err(failure) if failure.error.kind() == ErrorKind::ConnectionAborted => continue,
            answer => answer.with_context(|| format!("question {asked:?}"))?,
        };
        ensure!(answer.peer == target::<F>(WEB), "question {asked:?}: {answer:?}");
        let _ = asked.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Servers stay up when they are endpoints no more, as those of pods that are ending do.
fn neither_scaling_nor_a_sudden_end_breaks_anything<F: TestFamily>() -> Result<()> {
    let rig = Rig::new()?;
    rig.cluster.serve_web(&PODS[..3])?;
    let mut agent = rig.agent()?;
    let (stopped, asked) = (AtomicBool::new(false), [const { AtomicU32::new(0) }; 4]);
    let client: Client<'_> = rig.client();
    let mut staying = client.unconnected(F::FAMILY)?;
    thread::scope(|scope| {
        let stopped = &stopped;
        let [counts @ .., of_one] = &asked;
        let mut asking = Vec::new();
        for (way, count) in Way::ALL.into_iter().zip(counts) {
            let ask = move || way.ask(&client, target::<F>(WEB));
            let asks = scope.spawn(move || ask_on::<F>(stopped, count, ask));
            asking.push((format!("{way:?}"), asks));
        }
        let ask = move || staying.ask_at(target::<F>(WEB));
        let asks = scope.spawn(move || ask_on::<F>(stopped, of_one, ask));
        asking.push(("one socket".to_owned(), asks));
        let begun = Instant::now();
        let goes_on = |round| {
            let all_ask = asking.iter().all(|(_, asks)| !asks.is_finished());
            let too_few = asked.iter().any(|count| count.load(Ordering::Relaxed) < ENOUGH);
            round < ROUNDS || too_few && all_ask && begun.elapsed() < LIMIT
        };
        let scaled = (0..).take_while(|round| goes_on(*round)).try_for_each(|round| {
            let pods = if round % 2 == 0 { &PODS[round % 3..=round % 3] } else { &PODS[..3] };
            rig.cluster.serve_web(pods)?;
            thread::sleep(PAUSE);
            anyhow::Ok(())
        });
        stopped.store(true, Ordering::Relaxed);
        for (who, asks) in asking {
            asks.join().ok().context("a thread panicked")?.context(who)?;
        }
        scaled
    })?;
    eprintln!("questions while endpoints came and went: {asked:?}");
    let enough = asked.iter().all(|count| count.load(Ordering::Relaxed) >= ENOUGH);
    ensure!(enough, "too few questions: {asked:?}");
    rig.cluster.serve_web(&PODS[..3])?;
    // Else nothing would have changed at all.
    rig.wait_for::<F>(WEB, &PODS[..3])?;
    let mut stream = client.stay(target::<F>(WEB))?;
    agent.kill();
    is_running(&rig)?;
    let _: String = agent.cleanup()?;
    is_over::<F>(&rig, &mut stream)
}
