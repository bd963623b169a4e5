// SPDX-License-Identifier: Apache-2.0

//! Takes down what a process has made, however it ends.
//!
//! Whoever makes something that outlives the process (a namespace, a mount,
//! a child, a cgroup) makes it through [`acquire`], together with the way to
//! undo it. The [`Lease`] undoes it when it is dropped, so also when a test
//! panics. SIGINT, SIGTERM and SIGHUP undo everything in reverse order and
//! then end the process as they would have done. After a SIGKILL the next
//! run sweeps up: names carry the process id of their maker.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::{mem, process, thread};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

type Undo = Box<dyn FnOnce() -> Result<()> + Send>;

struct Made {
    what: String,
    undo: Undo,
}

struct Registry {
    next: u64,
    made: BTreeMap<u64, Made>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { next: 0, made: BTreeMap::new() });

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds something that was made; undoes it when dropped.
///
/// Do not keep one in a `static`: those are never dropped.
#[derive(Debug)]
#[must_use = "what was made is taken down when the lease is dropped"]
pub struct Lease(u64);

impl Drop for Lease {
    fn drop(&mut self) {
        // The lock is held while undoing, so that a signal in between waits
        // for it instead of ending the process halfway.
        let mut registry = registry();
        if let Some(made) = registry.made.remove(&self.0) {
            made.take_down();
        }
    }
}

impl Made {
    fn take_down(self) {
        if let Err(error) = (self.undo)() {
            eprintln!("could not take down {}: {error:#}", self.what);
        }
    }
}

/// Makes something with `make`, which returns it and the way to undo it.
///
/// No signal ends the process between the two. Neither may acquire or
/// release a lease itself.
pub fn acquire<T, U>(
    what: impl Into<String>,
    make: impl FnOnce() -> Result<(T, U)>,
) -> Result<(T, Lease)>
where
    U: FnOnce() -> Result<()> + Send + 'static,
{
    watch_signals()?;
    let what = what.into();
    let mut registry = registry();
    let (value, undo) = make().with_context(|| format!("making {what}"))?;
    let id = registry.next;
    registry.next += 1;
    let entry = Made { what, undo: Box::new(undo) };
    drop(registry.made.insert(id, entry));
    Ok((value, Lease(id)))
}

/// Starts the thread that takes everything down when a signal comes.
fn watch_signals() -> Result<()> {
    static STARTED: Once = Once::new();
    let mut result = Ok(());
    STARTED.call_once(|| {
        result = Signals::new([SIGINT, SIGTERM, SIGHUP])
            .and_then(|signals| {
                thread::Builder::new()
                    .name("cleanup".to_owned())
                    .spawn(move || take_down_on_signal(signals))
            })
            .map(drop)
            .context("watching for signals");
    });
    result
}

fn take_down_on_signal(mut signals: Signals) {
    for signal in signals.forever() {
        let mut registry = registry();
        while let Some((_, made)) = registry.made.pop_last() {
            made.take_down();
        }
        // Nobody may make anything any more: keep the lock until the end.
        mem::forget(registry);
        if signal_hook::low_level::emulate_default_handler(signal).is_err() {
            process::exit(1);
        }
    }
}
