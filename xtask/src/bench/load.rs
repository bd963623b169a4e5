// SPDX-License-Identifier: Apache-2.0
//! What the processors did in a window: for the benchmark, and for others, whose work would falsify
//! what is measured meanwhile.
//!
//! Time of the benchmark is that of its control group and of the kernel's threads, which handle its
//! packets; interrupts are its own, too, where the kernel keeps their time apart. All other time that
//! processors were not idle is foreign, and so is time that the hypervisor gave to others.
//!
//! Where the kernel does not keep their time apart, interrupts pass for work of what they interrupt. If
//! that is a spinner, which is taken off, the packets handled then are nobody's.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use procfs::{ConfigSetting, process::StatFlags};
use proxy_tests::cgroup::Cgroup;

/// The unit of `/proc/stat`, in seconds: `USER_HZ` is 100 wherever Linux runs.
const TICK: f64 = 0.01;

/// Reads the clocks of the processors.
pub(crate) struct Meter {
    cgroup: PathBuf,
    spinners: PathBuf,
    interrupts_are_apart: bool,
}

/// All clocks at the beginning of a window.
pub(crate) struct Mark(Clocks);

/// What the clocks show, in seconds.
#[derive(Clone, Copy)]
struct Clocks {
    at: Instant,
    idle: f64,
    stolen: f64,
    interrupts: f64,
    threads: f64,
    own: f64,
    spinners: f64,
    processors: usize,
}

/// What happened in a window, in seconds of one processor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// What all processors together could have worked.
    pub(crate) capacity: f64,
    /// What they worked for others.
    pub(crate) foreign: f64,
    /// What they worked for the benchmark, spinners aside.
    pub(crate) own: f64,
}

impl Load {
    /// Whether others had more than this part of the machine, as far as its clocks can tell.
    pub(crate) fn is_disturbed(self, tolerated: f64) -> bool {
        self.foreign > tolerated * self.capacity + 2.0 * TICK
    }
}

impl std::iter::Sum for Load {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Self::default(), |sum, load| Self {
            capacity: sum.capacity + load.capacity,
            foreign: sum.foreign + load.foreign,
            own: sum.own + load.own,
        })
    }
}

impl Meter {
    /// A meter for all that runs in `cgroup`; what runs in `spinners`, which is in it, only fills
    /// what would be idle.
    pub(crate) fn new(cgroup: &Cgroup, spinners: &Cgroup) -> Self {
        let config = procfs::kernel_config().unwrap_or_default();
        // Without the kernel's configuration: as the kernels of most distributions are.
        let interrupts_are_apart = config.is_empty()
            || matches!(config.get("CONFIG_IRQ_TIME_ACCOUNTING"), Some(ConfigSetting::Yes));
        Self {
            cgroup: cgroup.path().to_owned(),
            spinners: spinners.path().to_owned(),
            interrupts_are_apart,
        }
    }

    /// Begins a window.
    ///
    /// # Errors
    ///
    /// If the kernel's clocks cannot be read.
    pub(crate) fn start(&self) -> Result<Mark> {
        Ok(Mark(self.read()?))
    }

    /// Ends the window that began at `mark`.
    ///
    /// # Errors
    ///
    /// If the kernel's clocks cannot be read.
    pub(crate) fn end(&self, mark: &Mark) -> Result<Load> {
        Ok(self.load(&mark.0, &self.read()?))
    }

    fn load(&self, before: &Clocks, after: &Clocks) -> Load {
        let since = |clock: fn(&Clocks) -> f64| clock(after) - clock(before);
        let processors = u32::try_from(after.processors).unwrap_or(u32::MAX);
        let elapsed = after.at - before.at;
        let capacity = elapsed.as_secs_f64() * f64::from(processors);
        let interrupts = if self.interrupts_are_apart { since(|c| c.interrupts) } else { 0.0 };
        let stolen = since(|c| c.stolen);
        let worked = capacity - since(|c| c.idle) - stolen;
        let ours = since(|c| c.own) + since(|c| c.threads) + interrupts;
        Load {
            capacity,
            foreign: (worked - ours).max(0.0) + stolen,
            own: ours - since(|c| c.spinners),
        }
    }

    fn read(&self) -> Result<Clocks> {
        let threads = kernel_threads()?;
        let (own, spinners) = (usage(&self.cgroup)?, usage(&self.spinners)?);
        let at = Instant::now();
        let all = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let total = all.lines().next().context("/proc/stat is empty")?;
        let times: Vec<f64> =
            total.split_whitespace().skip(1).filter_map(|ticks| ticks.parse().ok()).collect();
        let [_, _, _, idle, waiting, hard, soft, stolen, ..] = times[..] else {
            anyhow::bail!("/proc/stat lacks times: {total}");
        };
        let is_processor = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
        Ok(Clocks {
            at,
            idle: (idle + waiting) * TICK,
            stolen: stolen * TICK,
            interrupts: (hard + soft) * TICK,
            threads,
            own,
            spinners,
            processors: all.lines().filter(is_processor).count(),
        })
    }
}

/// How long the threads of a control group have run, in seconds.
fn usage(cgroup: &Path) -> Result<f64> {
    let path = cgroup.join("cpu.stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let microseconds = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    let microseconds: f64 = microseconds.context("cpu.stat has no usage_usec")?.parse()?;
    Ok(microseconds / 1e6)
}

/// How long the kernel's own threads have run, in seconds.
fn kernel_threads() -> Result<f64> {
    let mut nanoseconds = 0;
    for process in procfs::process::all_processes()?.flatten() {
        // It may end meanwhile.
        let Ok(stat) = process.stat() else { continue };
        if stat.flags & StatFlags::PF_KTHREAD.bits() != 0
            && let Ok(schedule) = process.schedstat()
        {
            nanoseconds += schedule.sum_exec_runtime;
        }
    }
    Ok(Duration::from_nanos(nanoseconds).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Clocks, Load, Meter};

    fn meter(interrupts_are_apart: bool) -> Meter {
        Meter { cgroup: "/".into(), spinners: "/".into(), interrupts_are_apart }
    }

    /// A second after the clocks were these, with changes.
    fn load(meter: &Meter, change: impl FnOnce(&mut Clocks)) -> Load {
        let before = Clocks {
            at: Instant::now(),
            idle: 10.0,
            stolen: 1.0,
            interrupts: 1.0,
            threads: 1.0,
            own: 5.0,
            spinners: 1.0,
            processors: 2,
        };
        let mut after = Clocks { at: before.at + Duration::from_secs(1), ..before };
        change(&mut after);
        meter.load(&before, &after)
    }

    fn near(value: f64, other: f64) -> bool {
        (value - other).abs() < 1e-9
    }

    #[test]
    fn what_nobody_of_ours_did_is_foreign() {
        // Two processors for a second: idle for 0.5 s, 0.2 s were others'.
        let change = |clocks: &mut Clocks, own| {
            clocks.idle += 0.5;
            clocks.threads += 0.1;
            clocks.interrupts += 0.4;
            clocks.spinners += 0.3;
            clocks.own += own;
        };
        for (interrupts_are_apart, own) in [(false, 1.2), (true, 0.8)] {
            let load = load(&meter(interrupts_are_apart), |clocks| change(clocks, own));
            assert!(near(load.foreign, 0.2) && near(load.own, 1.0), "{load:?}");
            assert!(load.is_disturbed(0.05) && !load.is_disturbed(0.1));
        }
    }

    #[test]
    fn stolen_time_is_foreign() {
        let load = load(&meter(false), |clocks| {
            clocks.idle += 0.5;
            clocks.stolen += 0.3;
            clocks.own += 1.2;
        });
        assert!(near(load.foreign, 0.3), "{load:?}");
    }

    #[test]
    fn a_quiet_machine_is_not_disturbed() {
        let load = load(&meter(false), |clocks| {
            clocks.idle += 0.5;
            clocks.own += 1.48;
        });
        assert!(!load.is_disturbed(0.0));
        assert!(near([load; 2].into_iter().sum::<Load>().capacity, 4.0));
    }
}
