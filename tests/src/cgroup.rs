// SPDX-License-Identifier: Apache-2.0

//! Control groups, so that programs for sockets see only the sockets of a
//! test.
//!
//! They are threaded ones of cgroup2, below the group that the process
//! itself is in: threads of the process join them, and what such a thread
//! opens or starts belongs to them. `cgroup.kill` is not for them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::Process;

use crate::cleanup::{self, Lease};
use crate::leftovers;

/// How long the processes of a group may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The threads of a threaded group; to write to it moves a thread there.
const THREADS: &str = "cgroup.threads";

/// A control group that threads can enter; removed, with the groups and the
/// processes in it, when dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    _lease: Lease,
}

impl Cgroup {
    /// Makes one without threads, in the group of this process. Must be root.
    pub fn new(name: &str) -> Result<Self> {
        let name = leftovers::unique_name(name);
        Self::make(Hierarchy::find()?.own.join(name))
    }

    /// Makes one in this one; no two may have the same name at a time.
    pub fn child(&self, name: &str) -> Result<Self> {
        Self::make(self.path.join(name))
    }

    fn make(path: PathBuf) -> Result<Self> {
        let what = format!("cgroup {}", path.display());
        let (path, lease) = cleanup::acquire(what, || {
            fs::create_dir(&path).context("creating it (are you root?)")?;
            if let Err(error) = fs::write(path.join("cgroup.type"), "threaded") {
                fs::remove_dir(&path)?;
                return Err(error).context(
                    "making it threaded: the group above has controllers or other groups that \
                     forbid it; run this in a group of its own",
                );
            }
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

    /// Moves the calling thread into it, and so the sockets, threads and
    /// processes that it makes from now on.
    pub fn enter(&self) -> Result<()> {
        // By its number, all threads of the machine would be held up for it.
        fs::write(self.path.join(THREADS), "0")
            .with_context(|| format!("entering {}", self.path.display()))
    }
}

/// Where cgroup2 can be seen.
struct Hierarchy {
    /// Its topmost directory.
    top: PathBuf,
    /// The directory of this process's own group.
    own: PathBuf,
}

impl Hierarchy {
    fn find() -> Result<Self> {
        let process = Process::myself()?;
        let groups = process.cgroups().context("reading /proc/self/cgroup")?;
        let group = groups.into_iter().find(|group| group.hierarchy == 0);
        let group = group.context("this process is in no group of cgroup2")?;
        let mounts = process.mountinfo().context("reading /proc/self/mountinfo")?;
        let mounts = mounts.into_iter().filter(|mount| mount.fs_type == "cgroup2");
        let seen = mounts.filter_map(|mount| {
            let below = Path::new(&group.pathname).strip_prefix(&mount.root).ok()?;
            Some(Self { own: mount.mount_point.join(below), top: mount.mount_point })
        });
        seen.into_iter()
            .find(|seen| seen.own.join(THREADS).exists())
            .context("no cgroup2 can be seen: it is not mounted, or another mount is over it")
    }
}

/// All directories of cgroup2, as a killed run may have been in another
/// group than this one.
pub(crate) fn directories() -> Vec<PathBuf> {
    let mut all: Vec<_> = Hierarchy::find().into_iter().map(|hierarchy| hierarchy.top).collect();
    let mut next = 0;
    while let Some(path) = all.get(next) {
        let below = children(path);
        all.extend(below);
        next += 1;
    }
    all
}

/// The groups in the group at `path`; none if it is gone.
fn children(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// Removes the group at `path` and those in it, and ends their processes.
/// Threads of this process go back to its own group, or to the one above.
pub(crate) fn remove(path: &Path) -> Result<()> {
    children(path).iter().try_for_each(|child| remove(child))?;
    let removing = || format!("removing {}", path.display());
    let deadline = Instant::now() + PATIENCE;
    loop {
        clear(path).with_context(removing)?;
        match fs::remove_dir(path) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(2));
            }
            result => return result.with_context(removing),
        }
    }
}

fn clear(path: &Path) -> Result<()> {
    let home = home(path)?;
    for thread in fs::read_to_string(path.join(THREADS))?.lines() {
        if !Path::new("/proc/self/task").join(thread).exists() {
            // It may have ended by itself meanwhile.
            let _ = kill(Pid::from_raw(thread.parse()?), Signal::SIGKILL);
        } else if let Err(error) = fs::write(home.join(THREADS), thread)
            && error.raw_os_error() != Some(nix::libc::ESRCH)
        {
            return Err(error).context("moving a thread back");
        }
    }
    Ok(())
}

/// Where threads of this process go that leave the group at `path`: to its own
/// group, or, if its first thread is in the group itself, to the one above.
fn home(path: &Path) -> Result<PathBuf> {
    let own = Hierarchy::find()?.own;
    if !own.starts_with(path) {
        return Ok(own);
    }
    path.parent().map(Path::to_owned).context("the topmost group cannot be removed")
}
