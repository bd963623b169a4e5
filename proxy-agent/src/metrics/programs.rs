// SPDX-License-Identifier: Apache-2.0
//! How often the programs have run, and for how long.

use prometheus::{
    Error,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::row::{Is, Row, as_float};
use crate::bpf::ProgramRuns;

/// Asks the kernel.
#[derive(Debug)]
pub struct Programs {
    asked: ProgramRuns,
    runs: Row,
    seconds: Row,
}

impl Programs {
    /// Of these programs.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn new(asked: ProgramRuns) -> Result<Self, Error> {
        let row = |name, help| Row::new(Is::Counter, name, help, &["program"]);
        Ok(Self {
            asked,
            runs: row("sixfour_program_runs_total", "How often a BPF program has run")?,
            seconds: row(
                "sixfour_program_run_seconds_total",
                "For how long a BPF program has run",
            )?,
        })
    }
}

impl Collector for Programs {
    fn desc(&self) -> Vec<&Desc> {
        vec![self.runs.desc(), self.seconds.desc()]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let all = self.asked.read();
        let runs = all.iter().map(|one| ([one.program.as_str()], as_float(one.runs)));
        let seconds = all.iter().map(|one| ([one.program.as_str()], one.time.as_secs_f64()));
        vec![self.runs.of(runs), self.seconds.of(seconds)]
    }
}
