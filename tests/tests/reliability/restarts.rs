// SPDX-License-Identifier: Apache-2.0

//! An agent that ends, and is started again.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proxy_tests::agent::Agent;
use proxy_tests::load::Load;

use super::changes::{Changes, State};
use super::rig::{Rig, ends_well};

/// How long nothing happens, before an end and after a start.
const QUIET: Duration = Duration::from_secs(1);

/// How an agent ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// By SIGKILL.
    Killed,
    /// By SIGTERM.
    Stopped,
}

impl End {
    fn meet(self, agent: &mut Agent<'_>, load: &Load) -> Result<()> {
        load.note(format_args!("the agent is to be {self:?}"));
        match self {
            Self::Killed => agent.kill(),
            Self::Stopped => ensure!(agent.leave()?.success(), "it does not end well"),
        }
        load.note("it has ended");
        Ok(())
    }
}

/// The agent ends, objects change, and it starts again after some time.
fn ends_and_starts(end: End, without: Duration) -> Result<()> {
    let rig = Rig::new()?;
    let changes = Changes::new(&rig, rig.files())?;
    let mut agent = rig.agent().start()?;
    let (load, begun) = (rig.load()?, Instant::now());
    thread::sleep(QUIET);
    end.meet(&mut agent, &load)?;
    changes.make()?;
    thread::sleep(without);
    let meanwhile = changes.are_seen_soon(State::Before);
    load.note("the agent is started again");
    agent.start()?;
    load.note("it is ready");
    let afterwards = changes.are_seen_soon(State::After);
    thread::sleep(QUIET);
    let report = ends_well(load, begun)?;
    meanwhile?;
    afterwards?;
    changes.ensure_prompt(&report)?;
    ensure!(report.moved() == 0, "clients were moved, though nobody left:\n{report}");
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn killed_and_started_again() -> Result<()> {
    ends_and_starts(End::Killed, Duration::from_secs(30))
}

#[test]
fn stopped_and_started_again() -> Result<()> {
    ends_and_starts(End::Stopped, Duration::from_secs(3))
}

#[test]
fn started_three_times_in_a_row() -> Result<()> {
    let rig = Rig::new()?;
    let mut agent = rig.agent().start()?;
    let (load, begun) = (rig.load()?, Instant::now());
    for end in [End::Stopped, End::Killed, End::Stopped] {
        end.meet(&mut agent, &load)?;
        agent.start()?;
        load.note("it is ready again");
    }
    thread::sleep(QUIET);
    let report = ends_well(load, begun)?;
    ensure!(report.moved() == 0, "clients were moved, though nobody left:\n{report}");
    ensure!(agent.stop()?.success());
    Ok(())
}
