// SPDX-License-Identifier: Apache-2.0

//! Endpoints that come and go.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::rig::{Rig, ends_well};

/// How long an endpoint stays.
const PAUSE: Duration = Duration::from_millis(200);
/// How often one is replaced.
const TURNS: usize = 25;

#[test]
fn an_endpoint_is_replaced_again_and_again() -> Result<()> {
    let rig = Rig::new()?;
    let mut agent = rig.agent().start()?;
    let (load, begun) = (rig.load()?, Instant::now());
    for turn in 1..=TURNS {
        rig.turn(rig.files(), turn)?;
        if turn % 5 == 0 {
            load.note(format_args!("turn {turn}"));
        }
        thread::sleep(PAUSE);
    }
    let report = ends_well(load, begun)?;
    // Each client by UDP of the two that turn is moved every third turn.
    let moved = report.moved();
    ensure!(moved as usize >= TURNS, "clients were moved {moved} times only:\n{report}");
    ensure!(agent.stop()?.success());
    Ok(())
}
