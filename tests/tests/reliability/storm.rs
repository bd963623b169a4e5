// SPDX-License-Identifier: Apache-2.0

//! All at once: endpoints that are replaced all the time, beside agents that come and go, of two versions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use proxy_tests::agent::Agent;
use proxy_tests::load::Load;

use super::rig::{Rig, ends_well};

/// How long an endpoint stays.
const PAUSE: Duration = Duration::from_millis(200);
/// How long an agent may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happens to an agent.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// It is killed, and started again.
    Killed,
    /// It is stopped, and started again.
    Stopped,
    /// Another one waits for it to be stopped.
    HandedOver,
    /// It is killed, and one of the other ABI version is started.
    Exchanged,
}

impl Event {
    const ALL: [Self; 4] = [Self::Killed, Self::Stopped, Self::HandedOver, Self::Exchanged];

    fn happen(self, agent: &mut Agent<'_>, other_abi: &mut bool) -> Result<()> {
        match self {
            Self::Killed => agent.kill(),
            Self::Stopped => ensure!(agent.leave()?.success(), "it does not end well"),
            Self::HandedOver => {
                let first = agent.start_successor()?;
                first.signal(Signal::SIGTERM)?;
                ensure!(first.wait(PATIENCE)?.success(), "it does not end well");
                return agent.wait_until_ready();
            }
            Self::Exchanged => {
                agent.kill();
                *other_abi = !*other_abi;
                agent.change_abi(*other_abi)?;
            }
        }
        agent.start()
    }
}

/// Each event comes twice, in an order that is by chance: of two exchanges, the second is a rollback.
fn order() -> Vec<Event> {
    let mut events = [Event::ALL, Event::ALL].concat();
    fastrand::shuffle(&mut events);
    events
}

/// Replaces an endpoint every now and then until it is told to stop; says how often it has.
fn replace(rig: &Rig, stop: &AtomicBool) -> Result<usize> {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        rig.turn(rig.files(), turn)?;
        thread::sleep(PAUSE);
    }
    Ok(turn)
}

fn happen(events: &[Event], agent: &mut Agent<'_>, load: &Load) -> Result<()> {
    let mut other_abi = false;
    for event in events {
        load.note(format_args!("the agent is to be {event:?}"));
        event.happen(agent, &mut other_abi).with_context(|| format!("{event:?}"))?;
        load.note("it is ready");
        thread::sleep(PAUSE * 2);
    }
    Ok(())
}

fn storm(mode: &str) -> Result<()> {
    let rig = Rig::new()?;
    let mut agent = rig.agent().argument(format!("--attach={mode}")).start()?;
    let (load, begun) = (rig.load()?, Instant::now());
    let (events, stop) = (order(), AtomicBool::new(false));
    let (happened, replaced) = thread::scope(|scope| {
        let replacing = scope.spawn(|| replace(&rig, &stop));
        let happened = happen(&events, &mut agent, &load);
        stop.store(true, Ordering::Relaxed);
        (happened, replacing.join())
    });
    let report = ends_well(load, begun)?;
    happened.with_context(|| format!("{events:?}"))?;
    let Ok(replaced) = replaced else { bail!("replacing endpoints has crashed") };
    // They are read again after each start, and some are not seen meanwhile.
    let (replaced, moved) = (replaced?, report.moved());
    ensure!(moved as usize >= replaced / 4, "{moved} clients moved by {replaced} turns:\n{report}");
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn agents_and_endpoints_come_and_go_by_tcx() -> Result<()> {
    storm("tcx")
}

#[test]
fn agents_and_endpoints_come_and_go_by_clsact() -> Result<()> {
    storm("clsact")
}
