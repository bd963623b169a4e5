// SPDX-License-Identifier: Apache-2.0
//! How much of what is wanted is not in the tables.

use proxy_common::shortfall::Cause;

/// How much is missing, for what cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Since a table is full.
    pub full: usize,
    /// Since another Service has the frontend.
    pub contested: usize,
    /// For any other reason.
    pub failing: usize,
}

impl Missing {
    /// Those of a cause.
    pub(super) const fn of(&mut self, cause: Cause) -> &mut usize {
        match cause {
            Cause::FULL => &mut self.full,
            Cause::CONTESTED => &mut self.contested,
            _ => &mut self.failing,
        }
    }
}
