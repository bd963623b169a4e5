// SPDX-License-Identifier: Apache-2.0

//! Directories for logs, manifests and pins.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::cleanup::{self, Lease};
use crate::leftovers;

/// Where they are made.
pub(crate) const DIRECTORY: &str = "/run";

/// The mount point of a BPF file system in a scratch directory.
const BPFFS: &str = "bpf";

/// A directory that goes, with all that is in it, when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lease: Lease,
}

impl Scratch {
    /// Makes one. Must be root.
    pub fn new(name: &str) -> Result<Self> {
        let path = Path::new(DIRECTORY).join(leftovers::unique_name(name));
        let what = format!("directory {}", path.display());
        let (path, lease) = cleanup::acquire(what, || {
            fs::create_dir(&path).context("creating it (are you root?)")?;
            let to_remove = path.clone();
            Ok((path, move || remove(&to_remove)))
        })?;
        Ok(Self { path, _lease: lease })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts a BPF file system in it, of which nobody else knows, and
    /// returns its path.
    pub fn mount_bpffs(&self) -> Result<PathBuf> {
        let path = self.path.join(BPFFS);
        fs::create_dir(&path)?;
        mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .with_context(|| format!("mounting bpffs at {} (are you root?)", path.display()))?;
        Ok(path)
    }
}

/// Removes the directory at `path` and unmounts what is mounted in it.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match umount2(&path.join(BPFFS), MntFlags::MNT_DETACH) {
        // Not mounted, or not there.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => {
            return Err(error).with_context(|| format!("unmounting bpffs in {}", path.display()));
        }
    }
    fs::remove_dir_all(path).with_context(|| format!("removing {}", path.display()))
}
