// SPDX-License-Identifier: Apache-2.0

//! What a real kube-apiserver has sent, replayed.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use proxy_tests::api::fault::{Fault, Verb, Which};
use proxy_tests::api::recorded;

use super::stage::Stage;

/// Replays the recorded events, some at a time, with faults in between.
fn replay(at_a_time: usize, faults: &[Fault]) -> Result<()> {
    let stage = Stage::of_recordings()?;
    let server = stage.replay()?;
    let follower = stage.follow()?;
    follower.wait_synced()?;
    let mut faults = faults.iter().cycle();
    for events in recorded::events()?.chunks(at_a_time) {
        if let Some(fault) = faults.next() {
            stage.proxy.plan(Which::ALL.that(Verb::Watch), 2, fault.clone());
            stage.proxy.cut()?;
        }
        for event in events {
            server.replay(event)?;
        }
        stage.settle(&follower)?;
    }
    let said = follower.said();
    let deleted: BTreeSet<_> = said.deletions().map(|key| &*key.name.name).collect();
    let short_lived = |name: &&&str| name.starts_with("dyn") || **name == "burst";
    ensure!(deleted.iter().all(|name| short_lived(&name)), "{deleted:?} were deleted");
    ensure!(deleted.contains("dyn") && deleted.contains("burst"), "only {deleted:?} were deleted");
    Ok(())
}

#[test]
fn a_recorded_stream_ends_in_the_same_objects() -> Result<()> {
    replay(3, &[])
}

#[test]
fn a_recorded_stream_survives_faults() -> Result<()> {
    replay(
        4,
        &[
            Fault::CutInEvent(1),
            Fault::gone_after(2),
            Fault::Repeat,
            Fault::Reorder,
            Fault::gone(),
            Fault::CutAfter(2000),
            Fault::Delay(Duration::from_millis(5)),
        ],
    )
}

#[test]
fn a_version_that_was_forgotten_is_listed_anew() -> Result<()> {
    let stage = Stage::of_recordings()?;
    let server = stage.replay()?;
    let follower = stage.follow()?;
    follower.wait_synced()?;
    stage.proxy.down();
    for event in recorded::events()? {
        server.replay(&event)?;
    }
    server.compact();
    stage.proxy.up()?;
    stage.settle(&follower)
}
