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

use nix::{getsockopt_impl, libc, sockopt_impl, sys::socket::getsockopt};
use procfs::{ProcError, process::Process};
use rustix::{
    net::{AddressFamily, SocketType, socket},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use tracing::warn;

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
        scope.spawn(entered).join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

/// The inode of the host's process id namespace (`PROC_PID_INIT_INO` of `linux/proc_ns.h`).
const HOST_PIDS: u64 = 0xefff_fffc;

/// All network namespaces of the node but this one, as far as their processes can be seen.
#[derive(Debug)]
pub struct OtherNetns {
    own: u64,
}

impl OtherNetns {
    /// Those that are not this process's.
    ///
    /// # Errors
    ///
    /// If this process's is not known.
    pub fn new() -> procfs::ProcResult<Self> {
        let namespaces = Process::myself()?.namespaces()?;
        let inode = |kind: &str| namespaces.0.get(OsStr::new(kind)).map(|found| found.identifier);
        if inode("pid") != Some(HOST_PIDS) {
            warn!(
                "this is not the host's process id namespace: UDP sockets of pods stay connected to endpoints that have gone"
            );
        }
        Ok(Self { own: inode("net").unwrap_or_default() })
    }

    /// Has `work` done in each of them in which a process is, on a thread that has entered it, and
    /// adds up what comes of it.
    ///
    /// # Errors
    ///
    /// The first error of `work`, or [`EndError::Enter`] if some cannot be entered: after all others
    /// have been.
    pub(super) fn each(
        &self,
        work: impl Fn() -> Result<usize, EndError> + Sync,
    ) -> Result<usize, EndError> {
        let (mut sum, mut first_error) = (0, None);
        let mut closed: Option<(usize, io::Error)> = None;
        let Found { paths, hidden } = self.find()?;
        if hidden > 0 {
            closed = Some((hidden, io::ErrorKind::PermissionDenied.into()));
        }
        for path in paths {
            match within(&path, &work) {
                Ok(Ok(count)) => sum += count,
                Ok(Err(error)) => first_error = first_error.or(Some(error)),
                // Its process has ended.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => closed = Some((closed.map_or(0, |(count, _)| count) + 1, error)),
            }
        }
        match (first_error, closed) {
            (Some(error), _) => Err(error),
            (None, Some((count, source))) => Err(EndError::Enter { count, source }),
            (None, None) => Ok(sum),
        }
    }

    fn find(&self) -> Result<Found, EndError> {
        let (mut paths, mut hidden) = (HashMap::new(), 0);
        for process in procfs::process::all_processes().map_err(EndError::List)? {
            match process.and_then(|process| process.namespaces()) {
                Ok(namespaces) => {
                    if let Some(net) = namespaces.0.get(OsStr::new("net"))
                        && net.identifier != self.own
                    {
                        let _ = paths.insert(net.identifier, net.path.clone());
                    }
                }
                Err(ProcError::PermissionDenied(_)) => hidden += 1,
                // It has ended meanwhile.
                Err(_) => {}
            }
        }
        Ok(Found { paths: paths.into_values().collect(), hidden })
    }
}

/// The network namespaces of processes.
struct Found {
    /// A file of each.
    paths: Vec<PathBuf>,
    /// How many processes do not show theirs.
    hidden: usize,
}
