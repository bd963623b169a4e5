// SPDX-License-Identifier: Apache-2.0
//! The table at the end of a test run: one row for each part, with how it ended and how long
//! it took.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    kernels::{Boot, end_of_console},
    report,
};

/// How a part ended, if not with an error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Passed,
    Failed,
}

impl Ended {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
        }
    }
}

struct Row {
    name: String,
    ended: Ended,
    time: Duration,
}

#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Runs a part and adds its row; an error is shown at once.
    pub(super) fn time(&mut self, name: &str, part: impl FnOnce() -> Result<Ended>) {
        let start = Instant::now();
        let ended = part().unwrap_or_else(|error| {
            report::failure(&error);
            Ended::Failed
        });
        self.rows.push(Row { name: name.to_owned(), ended, time: start.elapsed() });
    }

    /// Adds a row for a boot, which took `time` with all that ran in it, and a row for each program.
    /// Where one failed, shows the end of what the guest printed.
    pub(super) fn add_boot(&mut self, guest: &str, boot: Result<Boot>, time: Duration) {
        let seconds = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let row = |ended, time| Row { name: format!("{guest} boot"), ended, time };
        let boot = match boot {
            Ok(boot) => boot,
            Err(error) => {
                report::failure(&error);
                self.rows.push(row(Ended::Failed, time));
                return;
            }
        };
        let programs = boot.outcomes.iter().map(|outcome| outcome.seconds).sum();
        self.rows.push(row(Ended::Passed, time.saturating_sub(seconds(programs))));
        for outcome in &boot.outcomes {
            let ended = if outcome.code == Some(0) { Ended::Passed } else { Ended::Failed };
            let how = match outcome.code {
                Some(0) => "passed".to_owned(),
                // What busybox's and coreutils' timeout return for what they ended.
                Some(124 | 143) => "took too long".to_owned(),
                Some(code) => format!("failed with exit code {code}"),
                None => "did not end: the guest died before".to_owned(),
            };
            report::step(format_args!("Linux {} ({guest}): {} {how}", boot.release, outcome.name));
            self.rows.push(Row {
                name: format!("{guest} {}", outcome.name),
                ended,
                time: seconds(outcome.seconds),
            });
        }
        if boot.outcomes.iter().any(|outcome| outcome.code != Some(0)) {
            report::note(format_args!("Linux {}: {}", boot.release, end_of_console(&boot.console)));
        }
    }

    pub(super) fn has_failures(&self) -> bool {
        self.rows.iter().any(|row| row.ended == Ended::Failed)
    }

    pub(super) fn print(&self) {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
        println!("\n{:width$}  {:12}  {:>8}", "stage", "result", "time");
        for Row { name, ended, time } in &self.rows {
            println!("{name:width$}  {:12}  {:>6.1} s", ended.word(), time.as_secs_f64());
        }
    }
}
