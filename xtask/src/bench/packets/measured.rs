// SPDX-License-Identifier: Apache-2.0
//! What the benchmark of single packets says.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use proxy_tests::family::IpFamily;
use serde::Deserialize;

/// What the benchmark says.
#[derive(Deserialize)]
pub(super) struct Measured {
    /// Rounds that others disturbed, by scenario; none of those that are not named.
    dropped: BTreeMap<String, usize>,
    pub(super) figures: Vec<Timed>,
}

/// One program in one scenario.
#[derive(Deserialize)]
pub(super) struct Timed {
    pub(super) family: String,
    pub(super) scenario: String,
    pub(super) flows: u64,
    /// Where their number is what is measured.
    pub(super) frontends: Option<u64>,
    pub(super) program: String,
    pub(super) floor: Option<String>,
    pub(super) nanoseconds: Vec<f64>,
}

impl Timed {
    /// The place on the chart's axis.
    pub(super) fn size(&self) -> u64 {
        self.frontends.unwrap_or(self.flows)
    }

    pub(super) fn family(&self) -> Result<IpFamily> {
        let mut families = IpFamily::ALL.into_iter();
        families.find(|family| family.name() == self.family).context("a family that there is not")
    }

    /// Whether it is the proxy's program where it is compared with a floor.
    pub(super) const fn is_own(&self) -> bool {
        self.floor.is_some()
    }
}

impl Measured {
    pub(super) fn of_scenario(&self, scenario: &str) -> impl Iterator<Item = &Timed> + Clone {
        self.figures.iter().filter(move |figure| figure.scenario == scenario)
    }

    /// The floor of a figure.
    pub(super) fn floor(&self, own: &Timed) -> Result<Option<&Timed>> {
        let Some(floor) = &own.floor else { return Ok(None) };
        let mut others = self.of_scenario(&own.scenario);
        let floor = others.find(|other| {
            other.program == *floor && (&other.family, other.size()) == (&own.family, own.size())
        });
        floor.map(Some).context("a floor was not measured")
    }

    /// How many rounds of these scenarios were disturbed.
    pub(super) fn dropped(&self, scenarios: &[&str]) -> usize {
        scenarios.iter().filter_map(|scenario| self.dropped.get(*scenario)).sum()
    }
}
