// SPDX-License-Identifier: Apache-2.0

//! Network namespaces, as `ip netns` makes them.
//!
//! Their names are `sf-<pid>-<number>-<name>`, so that whoever looks at
//! `ip netns list` sees whose they are. Everything is done from threads that
//! have joined the namespace; the mount namespace stays the caller's, so
//! that cgroup2 and bpffs stay visible (`ip netns exec` would hide them).

mod card;
mod commands;
mod inside;
mod netlink;
mod offload;
mod statistics;
mod veth;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{panic, thread};

use anyhow::{Context as _, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::cgroup::Cgroup;
use crate::cleanup::{self, Lease};
use crate::leftovers;

pub use card::Card;
pub use netlink::{Link, Netlink, Prefix, Vxlan};
pub use veth::Veth;

/// Where `ip netns` keeps its namespaces.
pub(crate) const DIRECTORY: &str = "/run/netns";

/// Marks the processes that were started in a namespace, so that what a
/// killed run has left behind can be told from a user's shell in there.
const PROCESS_MARK: &str = "SIXFOUR_TEST_NETNS";

/// A network namespace; it goes, with all processes that were started in it
/// through [`Namespace::command`], when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
    _lease: Lease,
    /// It goes after the namespace, which ends what was started in both.
    cgroup: Option<Cgroup>,
}

impl Namespace {
    /// Makes a namespace with its loopback device up.
    ///
    /// Must be root.
    pub fn new(name: &str) -> Result<Self> {
        let name = leftovers::unique_name(name);
        let path = Path::new(DIRECTORY).join(&name);
        let (file, lease) = cleanup::acquire(format!("network namespace {name}"), || {
            let file = create(&path)?;
            Ok((file, move || remove(&path)))
        })?;
        let namespace = Self { name, file, _lease: lease, cgroup: None };
        namespace.netlink()?.up("lo")?;
        Ok(namespace)
    }

    /// Has all work from now on run in `cgroup` too, which goes with the
    /// namespace.
    #[must_use]
    pub fn in_cgroup(mut self, cgroup: Cgroup) -> Self {
        self.cgroup = Some(cgroup);
        self
    }

    /// The control group of the work that runs here, if it has one.
    #[must_use]
    pub const fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// The name by which `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, for `nsenter --net=PATH`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Runs `work` on a thread that has joined the namespace, and its control
    /// group if it has one.
    ///
    /// Sockets that it opens and processes that it starts stay in both,
    /// wherever they are used afterwards. A panic goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.run_beside_cgroup(|| {
            self.cgroup.as_ref().map_or(Ok(()), Cgroup::enter)?;
            work()
        })
    }

    /// The same on a thread that stays in the control group of this process.
    pub fn run_beside_cgroup<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let thread = thread::Builder::new().name(self.name.clone());
        thread::scope(|scope| {
            let work = || {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("entering network namespace {}", self.name))?;
                work()
            };
            match thread.spawn_scoped(scope, work)?.join() {
                Ok(result) => result,
                Err(payload) => panic::resume_unwind(payload),
            }
        })
    }

    /// A command to be started by [`Process::spawn`](crate::process::Process)
    /// or within [`Namespace::run`].
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let _ = command.env(PROCESS_MARK, &self.name);
        command
    }

    /// Sets sysctls below `/proc/sys/net`, such as
    /// `("ipv4/ip_forward", "1")`.
    pub fn sysctl<'a>(
        &self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)> + Send,
    ) -> Result<()> {
        self.run(|| {
            settings.into_iter().try_for_each(|(key, value)| {
                fs::write(Path::new("/proc/sys/net").join(key), value)
                    .with_context(|| format!("setting sysctl net/{key} to {value}"))
            })
        })
    }
}

/// What `ip netns add` does, except that the new namespace starts on a
/// thread of its own.
fn create(path: &Path) -> Result<File> {
    share_directory()?;
    drop(File::create_new(path).with_context(|| format!("creating {}", path.display()))?);
    let mounted = thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace (root?)")?;
                bind("/proc/thread-self/ns/net", path, MsFlags::MS_BIND)
            })
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the thread panicked")))
    });
    if mounted.is_err() {
        fs::remove_file(path)?;
    }
    mounted?;
    File::open(path).with_context(|| format!("opening {}", path.display()))
}

/// Makes [`DIRECTORY`] a shared mount, as `ip netns add` does.
///
/// If it was not one, a later `ip netns add` would lay a copy of all mounts
/// in it over ours, and ours could not be removed.
fn share_directory() -> Result<()> {
    fs::create_dir_all(DIRECTORY).context("creating /run/netns (are you root?)")?;
    let lock = File::open(DIRECTORY)?;
    lock.lock().context("locking /run/netns")?;
    let shared = MsFlags::MS_SHARED | MsFlags::MS_REC;
    let share = || mount(None::<&str>, DIRECTORY, None::<&str>, shared, None::<&str>);
    if share().is_err() {
        bind(DIRECTORY, Path::new(DIRECTORY), MsFlags::MS_BIND | MsFlags::MS_REC)?;
        share().context("making /run/netns a shared mount (are you root?)")?;
    }
    Ok(())
}

fn bind(from: &str, to: &Path, flags: MsFlags) -> Result<()> {
    mount(Some(from), to, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("binding {from} to {} (are you root?)", to.display()))
}

/// Ends the processes that were started in a namespace and removes it.
pub(crate) fn remove(path: &Path) -> Result<()> {
    if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
        inside::end_processes(name);
    }
    umount2(path, MntFlags::MNT_DETACH)
        .with_context(|| format!("unmounting {}", path.display()))?;
    fs::remove_file(path).with_context(|| format!("removing {}", path.display()))
}
