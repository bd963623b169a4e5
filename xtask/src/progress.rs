// SPDX-License-Identifier: Apache-2.0
//! What a person sees while something takes long: a line for each part, and on a terminal a bar under
//! it that goes when the part is done.

use std::{fmt::Display, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::report;

/// A part of the work; its bar goes when this is dropped.
pub(crate) struct Part(ProgressBar);

impl Part {
    /// Says what is about to happen, in `steps` steps.
    pub(crate) fn new(what: impl Display, steps: usize) -> Self {
        report::step(what);
        let steps = steps.try_into().unwrap_or(u64::MAX);
        // Without a terminal it draws nothing.
        let bar = ProgressBar::new(steps).with_style(
            ProgressStyle::with_template("    {spinner} {bar:32.green} {pos}/{len}  {msg}")
                .expect("the template is right"),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Says what the next step is about.
    pub(crate) fn on(&self, what: impl Display) {
        self.0.set_message(what.to_string());
    }

    /// A step is done.
    pub(crate) fn done(&self) {
        self.0.inc(1);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
