// SPDX-License-Identifier: Apache-2.0
//! What the agent's process takes.

use std::time::Duration;

use anyhow::{Context as _, Result};
use procfs::process::Process;
use proxy_tests::agent::Agent;

/// Memory, in MiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// What is resident.
    pub(super) resident: f64,
    /// The most that ever was.
    pub(super) peak: f64,
}

fn process(agent: &Agent<'_>) -> Result<Process> {
    let id = agent.process().context("the agent does not run")?.id();
    Ok(Process::new(id.try_into()?)?)
}

/// The memory of an agent.
///
/// # Errors
///
/// If it does not run.
pub(super) fn memory(agent: &Agent<'_>) -> Result<Memory> {
    let status = process(agent)?.status()?;
    let mebibytes = |kibibytes: Option<u64>| {
        let kibibytes = kibibytes.context("the kernel does not tell of memory")?;
        anyhow::Ok(f64::from(u32::try_from(kibibytes)?) / 1024.0)
    };
    Ok(Memory { resident: mebibytes(status.vmrss)?, peak: mebibytes(status.vmhwm)? })
}

/// How long an agent's threads, those that there are, have run.
///
/// # Errors
///
/// If it does not run.
pub(super) fn processor_time(agent: &Agent<'_>) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in process(agent)?.tasks()? {
        nanoseconds += task?.schedstat()?.sum_exec_runtime;
    }
    Ok(Duration::from_nanos(nanoseconds))
}
