// SPDX-License-Identifier: Apache-2.0
//! How often programs have run and for how long, where the kernel counts that.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::programs::ProgramInfo;

use super::{Version, pins::entries};

/// Whether the kernel counts it: it costs two reads of the clock for each packet.
const COUNTED: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The programs that are pinned.
#[derive(Debug)]
pub struct ProgramRuns {
    directory: PathBuf,
}

/// What a program has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    /// What it is called.
    pub program: String,
    /// How often it has run.
    pub runs: u64,
    /// For how long, over all processors.
    pub time: Duration,
}

impl ProgramRuns {
    /// Those of a version.
    #[must_use]
    pub fn of(version: &Version) -> Self {
        Self { directory: version.programs() }
    }

    /// What each has done while it was counted; nothing where it never was. Those that cannot be asked are left out.
    #[must_use]
    pub fn read(&self) -> Vec<Runs> {
        let names = entries(&self.directory).unwrap_or_default().into_iter();
        let all: Vec<_> = names.filter_map(|name| self.ask(name.to_str()?)).collect();
        // Others may have it counted for a time, which this file does not say (`BPF_ENABLE_STATS`).
        let is_counted = || fs::read_to_string(COUNTED).is_ok_and(|text| text.trim() == "1");
        if all.iter().any(|one| one.runs > 0) || is_counted() { all } else { Vec::new() }
    }

    fn ask(&self, name: &str) -> Option<Runs> {
        let info = ProgramInfo::from_pin(self.directory.join(Path::new(name))).ok()?;
        Some(Runs { program: name.to_owned(), runs: info.run_count(), time: info.run_time() })
    }
}
