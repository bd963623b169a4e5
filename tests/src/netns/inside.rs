// SPDX-License-Identifier: Apache-2.0

//! The processes that were started in a namespace.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PROCESS_MARK;

/// Kills the processes that carry the mark of the namespace `name`.
///
/// A process that only joined the namespace (a user's `nsenter`) has no mark
/// and is left alone.
pub(super) fn end_processes(name: &str) {
    let mark = format!("{PROCESS_MARK}={name}");
    let Ok(processes) = fs::read_dir("/proc") else {
        return;
    };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in pids {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
            continue;
        };
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            // It may have ended by itself meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
