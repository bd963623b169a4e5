// SPDX-License-Identifier: Apache-2.0
//! The section on overload: what becomes of new connections beside a flood of SYNs that takes the table of flows twice,
//! and what it costs to keep a table of a million flows clean.

mod collecting;
mod flood;

use anyhow::Result;

use super::{report::Section, setup::Setup};

/// How many Services the agent has.
const SERVICES: u32 = 10;

/// Measures both.
///
/// # Errors
///
/// If something does not start, a connection does not get through, or a flood is not what it is called.
pub(super) fn run(setup: &Setup) -> Result<Section> {
    let mut charts = flood::measure(setup)?;
    charts.extend(collecting::measure(setup)?);
    let notes = vec![flood::note(), collecting::note()];
    Ok(Section { title: "Overload".to_owned(), notes, charts })
}
