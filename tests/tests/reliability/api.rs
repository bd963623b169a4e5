// SPDX-License-Identifier: Apache-2.0

//! An API that is away, and one that is not what it was.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proxy_tests::api::fault::{Fault, Verb, Which};
use proxy_tests::api::kind::Kind;

use super::changes::{Changes, State};
use super::distant::DistantApi;
use super::rig::{Rig, ends_well};

/// How long the API is away.
const AWAY: Duration = Duration::from_secs(2);
/// How long an agent may take to find it again, and to believe a list that is older than what it has
/// seen, which must come three times: its pauses grow to some seconds, each by chance up to twice as long.
const FOUND: Duration = Duration::from_mins(2);

#[test]
fn the_api_is_away() -> Result<()> {
    let rig = Rig::new()?;
    let distant = DistantApi::new(&rig)?;
    let DistantApi { server, way, .. } = &distant;
    let objects = distant.objects();
    let changes = Changes::new(&rig, objects)?;

    let mut agent = distant.agent(&rig).start()?;
    changes.are_seen_soon(State::Before)?;
    let (load, begun) = (rig.load()?, Instant::now());
    load.note("the API goes");
    way.down();
    changes.make()?;
    thread::sleep(AWAY);
    changes.are_seen_soon(State::Before)?;
    load.note("the API is back, with another state");
    way.up()?;
    let _: Duration = changes.are_seen(State::After, FOUND)?;

    server.lose(|| -> Result<()> {
        changes.undo()?;
        changes.are_seen_soon(State::Before)?;
        load.note("the API goes again, and loses what has changed last");
        way.down();
        Ok(())
    })?;
    // It does not know the versions that it is asked to go on from.
    for kind in Kind::ALL {
        way.plan(Which::of(kind).that(Verb::Watch), 1, Fault::gone());
    }
    load.note("it is back, with versions from before");
    way.up()?;
    let _: Duration = changes.are_seen(State::After, FOUND)?;
    load.note("what it has lost is seen to be gone");
    changes.undo()?;
    changes.are_seen_soon(State::Before)?;

    let report = ends_well(load, begun)?;
    changes.ensure_prompt(&report)?;
    ensure!(report.moved() == 0, "clients were moved, though nobody left:\n{report}");
    ensure!(agent.stop()?.success());
    Ok(())
}
