// SPDX-License-Identifier: Apache-2.0

//! The load itself loses nothing.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::rig::{Rig, ends_well};

#[test]
fn steady() -> Result<()> {
    let rig = Rig::new()?;
    let mut agent = rig.agent().start()?;
    let (load, begun) = (rig.load()?, Instant::now());
    thread::sleep(Duration::from_secs(5));
    let report = ends_well(load, begun)?;
    ensure!(report.moved() == 0, "clients were moved, though nobody left:\n{report}");
    ensure!(agent.stop()?.success());
    Ok(())
}
