// SPDX-License-Identifier: Apache-2.0

//! What was measured.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// All that was measured.
#[derive(Default, Serialize)]
pub(crate) struct Figures {
    /// Rounds that were repeated, since the thread was not alone on its processor, by scenario.
    pub(crate) dropped: BTreeMap<&'static str, usize>,
    figures: Vec<Figure>,
}

/// One program in one scenario.
#[derive(Serialize)]
pub(crate) struct Figure {
    /// `IPv4` or `IPv6`.
    pub(crate) family: &'static str,
    /// What the packets are.
    pub(crate) scenario: &'static str,
    /// Flows in the table.
    pub(crate) flows: u32,
    /// Frontends that are asked, where their number is what is measured.
    pub(crate) frontends: Option<u32>,
    /// The program, or the floor.
    pub(crate) program: &'static str,
    /// Which floor it is to be compared with, if it is none.
    pub(crate) floor: Option<&'static str>,
    /// Nanoseconds a packet in each round, without the driver's.
    pub(crate) nanoseconds: Vec<f64>,
}

impl Figures {
    /// Adds one.
    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Writes them as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(serde_json::to_writer(file, self)?)
    }

    /// Prints them, and how they compare with their floors.
    pub(crate) fn print(&self) {
        for figure in &self.figures {
            let Figure { family, scenario, program, .. } = figure;
            let size = figure.frontends.unwrap_or(figure.flows);
            let least = figure.nanoseconds.iter().copied().fold(f64::INFINITY, f64::min);
            let median = median(figure.nanoseconds.clone());
            print!("{family} {scenario:<40} {size:>7} {program:<16} {median:7.1} ({least:.1})");
            println!(
                "{}",
                self.ratio(figure).map(|ratio| format!("  {ratio:.2}")).unwrap_or_default()
            );
        }
    }

    /// The median of the ratios to the floor.
    fn ratio(&self, figure: &Figure) -> Option<f64> {
        let floor = self.figures.iter().find(|other| {
            Some(other.program) == figure.floor
                && (other.family, other.scenario, other.flows, other.frontends)
                    == (figure.family, figure.scenario, figure.flows, figure.frontends)
        })?;
        let both = figure.nanoseconds.iter().zip(&floor.nanoseconds);
        Some(median(both.map(|(own, floor)| own / floor).collect()))
    }
}

/// The middle one of some values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
