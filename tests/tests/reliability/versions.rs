// SPDX-License-Identifier: Apache-2.0

//! Agents of versions of the ABI whose tables differ, one after the other.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proxy_tests::agent::Agent;

use super::changes::{Changes, State};
use super::rig::{Rig, ends, ends_well};

/// How long nothing happens, before an end and after a start.
const QUIET: Duration = Duration::from_secs(1);
/// How long a start may take until its tables are complete.
const PATIENCE: Duration = Duration::from_mins(1);

/// An upgrade while objects change, and a rollback: by programs that are attached in this way.
fn there_and_back(mode: &str) -> Result<()> {
    let rig = Rig::new()?;
    let changes = Changes::new(&rig, rig.files())?;
    let mut agent = rig.agent().argument(format!("--attach={mode}")).start()?;
    let (load, begun) = (rig.load()?, Instant::now());
    thread::sleep(QUIET);
    ensure!(agent.leave()?.success(), "it does not end well");
    changes.make()?;
    load.note("the other version is started");
    agent.change_abi(true)?;
    agent.start()?;
    load.note("it is ready");
    let upgraded = changes.are_seen_soon(State::After);
    only_its_own(&agent)?;
    thread::sleep(QUIET);
    // Its programs are where it has put them beside the others'.
    ensure!(agent.leave()?.success(), "it does not end well");
    agent.start()?;
    load.note("it is ready once more");
    thread::sleep(QUIET);
    agent.kill();
    changes.undo()?;
    load.note("the version of before is started again");
    agent.change_abi(false)?;
    agent.start()?;
    load.note("it is ready");
    let rolled_back = changes.are_seen_soon(State::Before);
    only_its_own(&agent)?;
    thread::sleep(QUIET);
    let report = ends_well(load, begun)?;
    upgraded?;
    rolled_back?;
    changes.ensure_prompt(&report)?;
    ensure!(report.moved() == 0, "clients were moved, though nobody left:\n{report}");
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Which version goes on where an upgrade has been interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The one of before.
    Former,
    /// The other one, once more.
    Same,
}

/// An agent of the other version that is killed when it has said this, and one that goes on. Who connects while the one
/// is in the place of the other for the second time may have to send a SYN again.
fn killed_amid_an_upgrade(mode: &str, amid: &str, next: Next) -> Result<()> {
    let rig = Rig::new()?;
    let changes = Changes::new(&rig, rig.files())?;
    let mut agent = rig.agent().argument(format!("--attach={mode}")).start()?;
    let (load, begun) = (rig.load()?, Instant::now());
    thread::sleep(QUIET);
    ensure!(agent.leave()?.success(), "it does not end well");
    agent.change_abi(true)?;
    load.note("the other version is started");
    agent.begin()?;
    agent.wait_for(amid, PATIENCE)?;
    agent.kill();
    load.note(format_args!("it is killed, after {amid:?}"));
    changes.make()?;
    thread::sleep(QUIET);
    agent.change_abi(next == Next::Same)?;
    agent.start()?;
    load.note(format_args!("{next:?} is ready"));
    let seen = changes.are_seen_soon(State::After);
    only_its_own(&agent)?;
    thread::sleep(QUIET);
    let report = ends(load, begun)?;
    seen?;
    changes.ensure_prompt(&report)?;
    ensure!(report.moved() == 0, "clients were moved, though nobody left:\n{report}");
    ensure!(agent.stop()?.success());
    Ok(())
}

/// The own tables are complete, but nothing serves by them.
const READ: &str = "all sources have synced";
/// The programs of sockets do, and those of devices begin to.
const SERVING: &str = "serving processes at their sockets";
/// Nothing begins with the other programs, which are there still.
const OVER: &str = "another version's flows and session affinity went over";

#[test]
fn killed_before_it_serves() -> Result<()> {
    killed_amid_an_upgrade("tcx", READ, Next::Former)
}

#[test]
fn killed_while_both_serve() -> Result<()> {
    killed_amid_an_upgrade("tcx", SERVING, Next::Former)
}

#[test]
fn killed_once_the_former_begin_nothing() -> Result<()> {
    killed_amid_an_upgrade("tcx", OVER, Next::Former)
}

/// Filters carry nothing that says whose they are.
#[test]
fn killed_once_the_former_begin_nothing_by_clsact() -> Result<()> {
    killed_amid_an_upgrade("clsact", OVER, Next::Former)
}

#[test]
fn killed_and_started_again_by_tcx() -> Result<()> {
    killed_amid_an_upgrade("tcx", SERVING, Next::Same)
}

#[test]
fn killed_and_started_again_by_clsact() -> Result<()> {
    killed_amid_an_upgrade("clsact", OVER, Next::Same)
}

/// One version is left.
fn only_its_own(agent: &Agent<'_>) -> Result<()> {
    let versions = std::fs::read_dir(agent.pin_root())?.collect::<std::io::Result<Vec<_>>>()?;
    let versions = versions.iter().filter(|entry| entry.path().is_dir()).count();
    ensure!(versions == 1, "{versions} versions are pinned: {}", agent.log()?);
    Ok(())
}

#[test]
fn there_and_back_by_tcx() -> Result<()> {
    there_and_back("tcx")
}

#[test]
fn there_and_back_by_clsact() -> Result<()> {
    there_and_back("clsact")
}
