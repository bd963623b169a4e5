// SPDX-License-Identifier: Apache-2.0
//! The machine that figures are of.

use std::{fmt, fs, thread};

use anyhow::Result;
use jiff::Timestamp;
use procfs::{CpuInfo, Current as _, Meminfo};
use serde::{Deserialize, Serialize};

use crate::process::{Run as _, command};

/// Where the kernel says what it does against faults of the processor.
const VULNERABILITIES: &str = "/sys/devices/system/cpu/vulnerabilities";

/// Where measurements were made, when, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processors' model.
    pub(crate) model: String,
    /// How many there are.
    pub(crate) processors: usize,
    /// Memory, in GiB.
    pub(crate) memory: u64,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// What the kernel does against faults of the processors, by fault.
    pub(crate) mitigations: Vec<String>,
    /// The time at the beginning.
    pub(crate) date: Timestamp,
    /// The commit that was measured, with `-dirty` if more than that was.
    pub(crate) commit: String,
}

impl Machine {
    /// This machine, now.
    ///
    /// # Errors
    ///
    /// If the kernel says nothing of it, or the commit cannot be told.
    pub(crate) fn here() -> Result<Self> {
        let processors = CpuInfo::current()?;
        Ok(Self {
            model: processors.model_name(0).unwrap_or("unknown").to_owned(),
            processors: thread::available_parallelism()?.get(),
            memory: Meminfo::current()?.mem_total.div_ceil(1 << 30),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim_end().to_owned(),
            mitigations: mitigations(),
            date: Timestamp::now().round(jiff::Unit::Second)?,
            commit: command("git")
                .args(["describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"])
                .run_quietly()?
                .trim_end()
                .to_owned(),
        })
    }
}

/// What it is made of.
impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, processors, memory, kernel, .. } = self;
        write!(formatter, "{processors} × {model}, {memory} GiB, Linux {kernel}")
    }
}

/// The faults that the processors have. Not every architecture has the directory.
fn mitigations() -> Vec<String> {
    let faults = fs::read_dir(VULNERABILITIES).into_iter().flatten().flatten();
    let mut mitigations: Vec<_> = faults
        .filter_map(|fault| {
            let answer = fs::read_to_string(fault.path()).ok()?;
            let answer = answer.trim_end();
            (answer != "Not affected").then(|| format!("{}: {answer}", fault.file_name().display()))
        })
        .collect();
    mitigations.sort_unstable();
    mitigations
}
