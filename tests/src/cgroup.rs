// SPDX-License-Identifier: Apache-2.0

//! Control groups, so that programs for sockets see only the processes of a
//! test.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result};

use crate::cleanup::{self, Lease};
use crate::leftovers;
use crate::process::Process;

/// How long the processes of a group may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A child of the root of cgroup2; removed, with the processes in it, when
/// dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    _lease: Lease,
}

impl Cgroup {
    /// Makes one without processes. Must be root.
    pub fn new(name: &str) -> Result<Self> {
        let path = root()?.join(leftovers::unique_name(name));
        let what = format!("cgroup {}", path.display());
        let (path, lease) = cleanup::acquire(what, || {
            fs::create_dir(&path).context("creating it (are you root?)")?;
            let to_remove = path.clone();
            Ok((path, move || remove(&to_remove)))
        })?;
        Ok(Self { path, _lease: lease })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves a process into it.
    pub fn add(&self, process: &Process) -> Result<()> {
        let id = process.id();
        fs::write(self.path.join("cgroup.procs"), id.to_string())
            .with_context(|| format!("moving process {id} to {}", self.path.display()))
    }
}

/// Where cgroup2 is mounted, and not hidden by a later mount.
pub(crate) fn root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' '));
    fields
        .filter_map(|mut fields| Some((PathBuf::from(fields.nth(1)?), fields.next()?)))
        .find_map(|(path, kind)| {
            (kind == "cgroup2" && path.join("cgroup.procs").exists()).then_some(path)
        })
        .context("no cgroup2 can be seen: it is not mounted, or another mount is over it")
}

/// Ends the processes of the group at `path` and removes it.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removing = || format!("removing {}", path.display());
    fs::write(path.join("cgroup.kill"), "1").with_context(removing)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(2));
            }
            result => return result.with_context(removing),
        }
    }
}
