// SPDX-License-Identifier: Apache-2.0

//! An agent that is started while another runs, as in a rolling update of a DaemonSet with a surge.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::changes::{Changes, State};
use super::rig::{Rig, ends_well};

/// How long both run, and how long the second one does at least.
const QUIET: Duration = Duration::from_secs(2);
/// How long the first may take to end.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn handed_over() -> Result<()> {
    let rig = Rig::new()?;
    let changes = Changes::new(&rig, rig.files())?;
    let mut agent = rig.agent().start()?;
    let (load, begun) = (rig.load()?, Instant::now());
    load.note("a second agent is started");
    let first = agent.start_successor()?;
    thread::sleep(QUIET);
    let both_run = agent.process().context("it was started")?.status()?.is_none();
    ensure!(both_run, "the second agent has ended: {}", agent.log()?);
    // The first one's, as long as it runs.
    changes.make()?;
    let by_the_first = changes.are_seen_soon(State::After);
    load.note("the first is stopped");
    first.signal(Signal::SIGTERM)?;
    ensure!(first.wait(PATIENCE)?.success(), "it does not end well");
    load.note("it has ended");
    agent.wait_until_ready()?;
    load.note("the second is ready");
    changes.undo()?;
    let by_the_second = changes.are_seen_soon(State::Before);
    thread::sleep(QUIET);
    let report = ends_well(load, begun)?;
    by_the_first?;
    by_the_second?;
    changes.ensure_prompt(&report)?;
    ensure!(report.moved() == 0, "clients were moved, though nobody left:\n{report}");
    ensure!(agent.stop()?.success());
    Ok(())
}
