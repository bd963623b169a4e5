// SPDX-License-Identifier: Apache-2.0
//! Network namespaces, as the programs tell them apart.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io,
    os::fd::AsFd as _,
    panic,
    path::{Path, PathBuf},
    thread,
};

use caps::{CapSet, Capability, errors::CapsError};
use nix::{getsockopt_impl, libc, sockopt_impl, sys::socket::getsockopt};
use procfs::{ProcResult, process::Process};
use rustix::{
    net::{AddressFamily, SocketType, socket},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use tracing::debug;

use super::left::EndError;

sockopt_impl!(
    /// The cookie of a socket's network namespace (Linux commit e8b9eab99232): a number that no
    /// other namespace gets until the node boots anew.
    NetnsCookie,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64
);

/// The cookie of this thread's network namespace.
///
/// # Errors
///
/// If there can be no socket.
pub fn netns_cookie() -> io::Result<u64> {
    // A local socket, since a kernel may lack either IP family.
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    Ok(getsockopt(&socket, NetnsCookie)?)
}

/// The cookie of the network namespace that a file names.
///
/// # Errors
///
/// If it names none, or one that this process may not enter.
pub fn netns_cookie_of(path: &Path) -> io::Result<u64> {
    within(path, netns_cookie)?
}

/// Has `work` done on a thread that has entered the network namespace that a file names.
fn within<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let entered = || {
            let namespace = File::open(path)?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        };
        let thread = thread::Builder::new().name("netns".to_owned());
        let thread = thread.spawn_scoped(scope, entered)?;
        thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

/// The inode of the host's process id namespace (`PROC_PID_INIT_INO` of `linux/proc_ns.h`).
const HOST_PIDS: u64 = 0xefff_fffc;

/// All network namespaces of the node but this one, as far as their processes can be seen.
#[derive(Debug)]
pub struct OtherNetns {
    own: u64,
    /// Whether all processes of the node can be seen.
    sees_all: bool,
}

impl OtherNetns {
    /// Those that are not this process's.
    ///
    /// # Errors
    ///
    /// If this process's is not known.
    pub fn new() -> ProcResult<Self> {
        let namespaces = Process::myself()?.namespaces()?;
        let inode = |kind: &str| namespaces.0.get(OsStr::new(kind)).map(|found| found.identifier);
        let sees_all = inode("pid") == Some(HOST_PIDS);
        Ok(Self { own: inode("net").unwrap_or_default(), sees_all })
    }

    /// What this process lacks to find and to enter all of them.
    ///
    /// # Errors
    ///
    /// If its capabilities cannot be read.
    pub fn lacks(&self) -> Result<Vec<&'static str>, CapsError> {
        let effective = caps::read(None, CapSet::Effective)?;
        let has = |capability| effective.contains(&capability);
        let needed = [
            (has(Capability::CAP_SYS_ADMIN), "CAP_SYS_ADMIN"),
            (has(Capability::CAP_SYS_PTRACE), "CAP_SYS_PTRACE"),
            (self.sees_all, "the host's process ids"),
        ];
        Ok(needed.into_iter().filter_map(|(has, name)| (!has).then_some(name)).collect())
    }

    /// Has `work` done in each of them in which a process is, on a thread that has entered it, and
    /// adds up what comes of it. Those that cannot be entered are left as they are: that takes rights
    /// which [`OtherNetns::lacks`] tells of.
    ///
    /// # Errors
    ///
    /// The first error of `work`, after all others have had theirs.
    pub(super) fn each(
        &self,
        work: impl Fn() -> Result<usize, EndError> + Sync,
    ) -> Result<usize, EndError> {
        let (mut sum, mut first_error) = (0, None);
        for path in self.paths()? {
            match within(&path, &work) {
                Ok(Ok(count)) => sum += count,
                Ok(Err(error)) => first_error = first_error.or(Some(error)),
                Err(error) => {
                    let namespace = path.display();
                    debug!(%namespace, %error, "cannot enter a network namespace");
                }
            }
        }
        first_error.map_or(Ok(sum), Err)
    }

    /// A file of each, of one of its processes.
    fn paths(&self) -> Result<Vec<PathBuf>, EndError> {
        let mut paths = HashMap::new();
        for process in procfs::process::all_processes().map_err(EndError::List)? {
            // It may end meanwhile, or not show it.
            let Ok(namespaces) = process.and_then(|process| process.namespaces()) else {
                continue;
            };
            if let Some(net) = namespaces.0.get(OsStr::new("net"))
                && net.identifier != self.own
            {
                let _ = paths.insert(net.identifier, net.path.clone());
            }
        }
        Ok(paths.into_values().collect())
    }
}
