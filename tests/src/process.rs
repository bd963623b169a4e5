// SPDX-License-Identifier: Apache-2.0

//! Child processes that never outlive their parent.

use std::io::ErrorKind;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cleanup::{self, Lease};
use crate::netns::Namespace;

/// A child process; killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Arc<Mutex<Child>>,
    _lease: Lease,
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    /// Starts `command` in `namespace`; see also [`Namespace::command`].
    pub fn spawn(namespace: &Namespace, mut command: Command) -> Result<Self> {
        let what = format!("{} in {}", command.get_program().display(), namespace.name());
        let (child, lease) = cleanup::acquire(what.clone(), || {
            let child = namespace.run(|| command.spawn().context("starting it"))?;
            let child = Arc::new(Mutex::new(child));
            let to_end = Arc::clone(&child);
            Ok((child, move || end(&mut lock(&to_end))))
        })?;
        Ok(Self { what, child, _lease: lease })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    /// Its exit status if it has ended.
    pub fn status(&self) -> Result<Option<ExitStatus>> {
        lock(&self.child).try_wait().with_context(|| format!("waiting for {}", self.what))
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = lock(&self.child);
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(child.id().try_into()?);
        kill(pid, signal).with_context(|| format!("sending {signal} to {}", self.what))
    }

    /// Waits for its end, at most for `patience`.
    pub fn wait(&self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.status()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("{} has not ended within {patience:?}", self.what)
    }
}

fn end(child: &mut Child) -> Result<()> {
    match child.kill() {
        Err(error) if error.kind() != ErrorKind::InvalidInput => return Err(error.into()),
        _ => {}
    }
    child.wait().map(|_| ()).map_err(Into::into)
}
