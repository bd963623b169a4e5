// SPDX-License-Identifier: Apache-2.0
//! The process, as Prometheus' own clients tell of it.
//!
//! The `prometheus` crate counts whole seconds of a processor's time only, and so is not asked. What Go's client calls
//! bytes of the process are those of all its network namespace, which are the node's here, and are not told.

use procfs::{
    ProcResult,
    process::{LimitValue, Process as OfKernel},
};
use prometheus::{
    Error,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::row::{Is, Row, as_float};

/// Name, kind and meaning of each, in the order in which they are [read](Process::read).
const ROWS: [(&str, Is, &str); 8] = [
    ("cpu_seconds_total", Is::Counter, "Total user and system CPU time spent in seconds"),
    ("max_fds", Is::Gauge, "Maximum number of open file descriptors"),
    ("open_fds", Is::Gauge, "Number of open file descriptors"),
    ("resident_memory_bytes", Is::Gauge, "Resident memory size in bytes"),
    ("start_time_seconds", Is::Gauge, "Start time of the process since unix epoch in seconds"),
    ("threads", Is::Gauge, "Number of OS threads in the process"),
    ("virtual_memory_bytes", Is::Gauge, "Virtual memory size in bytes"),
    ("virtual_memory_max_bytes", Is::Gauge, "Maximum amount of virtual memory available in bytes"),
];

/// Looks at the own process.
#[derive(Debug)]
pub struct Process {
    rows: Vec<Row>,
    /// When the machine was started, in seconds since the epoch.
    booted: f64,
}

impl Process {
    /// The own one.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn new() -> Result<Self, Error> {
        let row = |(name, is, help): (&str, Is, &str)| {
            Row::new(is, &format!("process_{name}"), help, &[])
        };
        let rows = ROWS.into_iter().map(row).collect::<Result<_, _>>()?;
        // It does not change, as long as nobody sets the clock.
        Ok(Self { rows, booted: procfs::boot_time_secs().map_or(0.0, as_float) })
    }

    /// All values.
    fn read(&self) -> ProcResult<[f64; ROWS.len()]> {
        let process = OfKernel::myself()?;
        let stat = process.stat()?;
        let ticks = as_float(procfs::ticks_per_second());
        let limits = process.limits()?;
        let limit = |value| match value {
            LimitValue::Unlimited => as_float(u64::MAX),
            LimitValue::Value(value) => as_float(value),
        };
        Ok([
            as_float(stat.utime + stat.stime) / ticks,
            limit(limits.max_open_files.soft_limit),
            as_float(process.fd_count()? as u64),
            as_float(stat.rss * procfs::page_size()),
            self.booted + as_float(stat.starttime) / ticks,
            as_float(stat.num_threads.unsigned_abs()),
            as_float(stat.vsize),
            limit(limits.max_address_space.soft_limit),
        ])
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.rows.iter().map(Row::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let values = self.read().into_iter().flatten();
        self.rows.iter().zip(values).map(|(row, value)| row.of([([], value)])).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, time::SystemTime};

    use super::*;

    #[test]
    fn it_is_this_process() {
        let process = Process::new().unwrap();
        let before = process.read().unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let started = before[4];
        assert!(started < now + 1.0 && started > now - 3600.0, "{started}, and now {now}");
        let held: Vec<_> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        let after = process.read().unwrap();
        assert!(after[2] >= before[2] + 50.0, "{before:?}, {after:?}");
        assert!(after[3] >= 1e6 && after[6] > after[3], "{after:?}");
        assert!(after[0] < 3600.0 && after[0] >= before[0], "{after:?}");
        drop(held);
    }
}
