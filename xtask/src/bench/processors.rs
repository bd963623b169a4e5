// SPDX-License-Identifier: Apache-2.0
//! Which processors do what, and that none of them sleeps.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    libc,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use proxy_tests::cgroup::Cgroup;

/// The calling thread.
const THIS: Pid = Pid::from_raw(0);

/// How often a spinner spins before it offers the processor: for about a microsecond.
const SPINS: u32 = 32;

/// The processors for clients, and those for servers.
pub(crate) struct Processors {
    all: Vec<usize>,
}

/// Where something runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the processors of clients: the first half.
    Client,
    /// On the processors of servers: the second half.
    Server,
    /// On the first processor.
    First,
}

impl Processors {
    /// Those that this thread may use; they are all that there are if there is one only.
    ///
    /// # Errors
    ///
    /// If the kernel does not say which.
    pub(crate) fn new() -> Result<Self> {
        let usable = sched_getaffinity(THIS).context("asking for usable processors")?;
        let is_usable = |processor: &usize| usable.is_set(*processor).unwrap_or(false);
        Ok(Self { all: (0..CpuSet::count()).filter(is_usable).collect() })
    }

    /// Runs `work` in a place, with all threads and processes that it starts.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, or the work fails.
    pub(crate) fn run<T>(&self, place: Place, work: impl FnOnce() -> Result<T>) -> Result<T> {
        pin(self.of(place))?;
        let result = work();
        pin(&self.all)?;
        result
    }

    fn of(&self, place: Place) -> &[usize] {
        let (clients, servers) = self.all.split_at(self.all.len() / 2);
        match place {
            _ if clients.is_empty() => servers,
            Place::Client => clients,
            Place::Server => servers,
            Place::First => &clients[..1],
        }
    }

    /// Starts a thread on each processor that spins whenever nobody else wants it: a virtual
    /// processor that is halted takes tens of microseconds to wake up, which would be measured with
    /// the packets.
    ///
    /// `SCHED_IDLE` gives way to whoever wakes up, but not to who waits already: where that one has had
    /// more than its share, the scheduler (EEVDF, since Linux 6.6) lets the spinner have the processor
    /// until the next tick. So it offers the processor all the time.
    ///
    /// # Errors
    ///
    /// If threads cannot be started, or may not have so low a priority.
    pub(crate) fn keep_awake(&self, cgroup: &Arc<Cgroup>) -> Result<Spinners> {
        let mut spinners = Spinners { ending: Arc::default(), threads: Vec::new() };
        for processor in self.all.clone() {
            let (ending, cgroup) = (Arc::clone(&spinners.ending), Arc::clone(cgroup));
            let spin = move || {
                cgroup.enter()?;
                pin(&[processor])?;
                be_idle()?;
                while !ending.load(Ordering::Relaxed) {
                    for _ in 0..SPINS {
                        std::hint::spin_loop();
                    }
                    thread::yield_now();
                }
                Ok(())
            };
            let thread = thread::Builder::new().name(format!("spinner-{processor}")).spawn(spin)?;
            spinners.threads.push(thread);
        }
        Ok(spinners)
    }
}

/// Threads that keep the processors awake.
pub(crate) struct Spinners {
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Spinners {
    /// Ends them.
    ///
    /// # Errors
    ///
    /// If one could not do its work.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.ending.store(true, Ordering::Relaxed);
        self.threads
            .drain(..)
            .map(JoinHandle::join)
            .try_for_each(|result| result.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Has the calling thread, and what it starts, run on these processors only.
fn pin(processors: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for processor in processors {
        set.set(*processor)?;
    }
    sched_setaffinity(THIS, &set).with_context(|| format!("running on {processors:?} only"))
}

/// Has the calling thread run only where nobody else would: `SCHED_IDLE` of sched(7).
fn be_idle() -> Result<()> {
    // SAFETY: all bytes zero is a valid `sched_param`, with the priority 0 that this policy wants.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to parameters that outlive the call; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    Errno::result(result).map(drop).context("lowering the priority of a thread")
}
