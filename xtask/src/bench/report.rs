// SPDX-License-Identifier: Apache-2.0
//! What was measured: one model, written as JSON, and shown as a page, as tables on the terminal, and
//! as the part of the README about goals.

mod chart;
mod goal;
mod goals;
mod page;
mod readme;
mod summary;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use proxy_tests::family::IpFamily;
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::{report, statistics::Estimate, workspace};

pub(crate) use goal::{Goal, Wanted};
pub(crate) use summary::together;

/// Everything that a run measured.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    /// Where and when.
    pub(crate) machine: Machine,
    /// Whether it was in a hurry.
    pub(crate) quick: bool,
    /// What was measured.
    pub(crate) sections: Vec<Section>,
}

/// What was measured together.
#[derive(Serialize, Deserialize)]
pub(crate) struct Section {
    /// Its title.
    pub(crate) title: String,
    /// How it was measured, and what a reader must know, a paragraph each.
    pub(crate) notes: Vec<String>,
    /// The figures.
    pub(crate) charts: Vec<Chart>,
}

/// Figures of one quantity.
#[derive(Serialize, Deserialize)]
pub(crate) struct Chart {
    /// What was measured.
    pub(crate) title: String,
    /// Its unit.
    pub(crate) unit: String,
    /// How many digits are shown after the point.
    pub(crate) digits: usize,
    /// What the sizes of the figures count, if they have any.
    pub(crate) axis: Option<String>,
    /// Whether the summary shows it.
    pub(crate) in_summary: bool,
    /// How many rounds there are; where its figures have different numbers, the fewest.
    pub(crate) rounds: usize,
    /// How many rounds were dropped because others had too much of the machine.
    pub(crate) dropped: usize,
    /// The figures, those of one case one after the other.
    pub(crate) figures: Vec<Figure>,
}

/// A quantity of one case in one family.
#[derive(Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) case: String,
    /// The family, as it is called; `both` if it is of both together.
    pub(crate) family: String,
    /// How many there were of what the chart's axis counts.
    pub(crate) size: Option<u64>,
    /// The value of each round; of p50 and p99, all values of all rounds.
    pub(crate) values: Vec<f64>,
    /// Their median, or what else was asked for.
    pub(crate) estimate: Estimate,
    /// What it is to be, if it is to be anything.
    pub(crate) goal: Option<Goal>,
    /// How it compares with others of the same rounds.
    pub(crate) ratios: Vec<Ratio>,
}

/// A figure as a part of another one, in each round.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ratio {
    /// The case of the other figure.
    pub(crate) to: String,
    /// The ratio in each round.
    pub(crate) values: Vec<f64>,
    /// Their median.
    pub(crate) estimate: Estimate,
    /// What it is to be, if it is to be anything.
    pub(crate) goal: Option<Goal>,
}

impl Figure {
    /// A figure with its median, of a family or of both together.
    ///
    /// # Errors
    ///
    /// If there are no values: others had the machine all the time.
    pub(crate) fn new(
        case: &str,
        family: impl Into<Option<IpFamily>>,
        values: Vec<f64>,
    ) -> Result<Self> {
        let estimate = Estimate::of(&values);
        Self::estimated(case, family.into(), values, estimate)
    }

    /// A figure with the value below which this part of its values lies.
    ///
    /// # Errors
    ///
    /// If there are no values.
    pub(crate) fn quantile(
        case: &str,
        family: impl Into<Option<IpFamily>>,
        values: Vec<f64>,
        part: f64,
    ) -> Result<Self> {
        let estimate = Estimate::at(&values, part);
        Self::estimated(case, family.into(), values, estimate)
    }

    fn estimated(
        case: &str,
        family: Option<IpFamily>,
        values: Vec<f64>,
        estimate: Option<Estimate>,
    ) -> Result<Self> {
        let estimate = estimate.with_context(|| {
            format!(
                "{case}: the machine was busy with other work all the time (`--tolerate` lets it be)"
            )
        })?;
        let case = case.to_owned();
        let family = family.map_or("both", IpFamily::name).to_owned();
        Ok(Self { case, family, size: None, values, estimate, goal: None, ratios: Vec::new() })
    }

    /// With the size that it has on its chart's axis.
    pub(crate) const fn at(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// With what it is to be.
    pub(crate) fn wanted(mut self, wanted: Wanted) -> Self {
        self.goal = Some(wanted.judge(&self.estimate));
        self
    }

    /// Beside `values` of the same rounds, of the case `to`; with what the ratio is to be.
    pub(crate) fn beside(mut self, to: &str, values: &[f64], wanted: Option<Wanted>) -> Self {
        let pairs = self.values.iter().zip(values);
        let values: Vec<_> = pairs.map(|(value, reference)| value / reference).collect();
        self.ratios.extend(Estimate::of(&values).map(|estimate| {
            let goal = wanted.map(|wanted| wanted.judge(&estimate));
            Ratio { to: to.to_owned(), values, estimate, goal }
        }));
        self
    }

    /// All that it is to be.
    pub(crate) fn goals(&self) -> impl Iterator<Item = &Goal> {
        self.goal.iter().chain(self.ratios.iter().filter_map(|ratio| ratio.goal.as_ref()))
    }
}

impl Report {
    /// Writes `report.json`, `report.html` and `summary.md`, and prints the tables.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub(crate) fn publish(&self) -> Result<()> {
        let folder = workspace::target("bench");
        fs::create_dir_all(&folder)?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        write("report.json", &serde_json::to_string_pretty(self)?)?;
        write("report.html", &page::page(self)?)?;
        write("summary.md", &summary::markdown(self))?;
        summary::print(self);
        report::step(format_args!("wrote {}", shown(&folder.join("report.html"))));
        Ok(())
    }

    /// Writes which goals are reached into the README.
    ///
    /// # Errors
    ///
    /// If there is no place for it, or it cannot be written.
    pub(crate) fn tell_readme(&self) -> Result<()> {
        let path = workspace::root().join("README.md");
        let writing = || format!("writing {}", shown(&path));
        let readme = fs::read_to_string(&path).with_context(writing)?;
        let readme = readme::with(self, &readme).with_context(writing)?;
        fs::write(&path, readme).with_context(writing)?;
        report::step(writing());
        Ok(())
    }
}

/// A path as it is shown: from the top of the workspace.
fn shown(path: &Path) -> impl std::fmt::Display {
    path.strip_prefix(workspace::root()).unwrap_or(path).display()
}
