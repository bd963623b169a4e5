// SPDX-License-Identifier: Apache-2.0
//! What went wrong, if anything did.

use anyhow::{Result, bail};

use crate::report;

/// How many problems are shown; the first ones say most.
const SHOWN: usize = 20;

/// Everything that the proxy did wrong.
#[derive(Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Says what went wrong so far.
    pub(super) fn report(&self) {
        for problem in self.0.iter().take(SHOWN) {
            report::note(problem);
        }
        if self.0.is_empty() {
            report::step("everything was as it must be");
        }
    }

    /// Says what went wrong.
    ///
    /// # Errors
    ///
    /// If anything did.
    pub(super) fn into_result(self) -> Result<()> {
        self.report();
        match self.0.len() {
            0 => Ok(()),
            1 => bail!("the demo found a problem"),
            count => bail!("the demo found {count} problems"),
        }
    }
}
