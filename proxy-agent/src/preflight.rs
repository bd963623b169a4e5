// SPDX-License-Identifier: Apache-2.0
//! What the node must have, looked at before anything is touched.
//!
//! [`Facts::gather`] reads the node, [`check`] judges: pure, so that every lack can be tested
//! without lacking it.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use caps::{CapSet, Capability, CapsHashSet};
use procfs::{KernelVersion, ProcError, process::Process};
use proxy_common::{Family, V4, V6};
use rustix::{io::Errno, process::geteuid};
use thiserror::Error;

use crate::sockets::CgroupRoot;

mod lack;

pub use lack::Lack;

/// The oldest kernel that the programs are made for: major and minor.
pub const OLDEST_KERNEL: (u8, u8) = (6, 1);

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Where the kernel keeps its own type information.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Where the kernel says whether it compiles BPF programs; in the host's network namespace only.
const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";

/// What the node is like, as far as Sixfour depends on it.
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
#[derive(Clone, Debug)]
pub struct Facts {
    /// Whether the effective user is root.
    pub root: bool,
    /// The effective capabilities.
    pub capabilities: HashSet<Capability>,
    /// The running kernel: major and minor.
    pub kernel: (u8, u8),
    /// Whether the kernel has its type information at hand.
    pub btf: bool,
    /// Whether it compiles BPF programs, as far as it says so. It interprets none with loops of its
    /// own (`bpf_loop`).
    pub jit: bool,
    /// Where maps and links are to be pinned.
    pub pin_root: PathBuf,
    /// Whether that is (or would be made) on a BPF file system.
    pub pin_root_on_bpffs: bool,
    /// A BPF file system that is mounted somewhere.
    pub bpffs: Option<PathBuf>,
    /// The control group whose processes are to be served at their sockets, as far as that is
    /// wanted.
    pub cgroup: CgroupFacts,
    /// The IP families of the kernel.
    pub families: Families,
}

/// Which control group there is for sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupFacts {
    /// None is wanted.
    Unwanted,
    /// This one.
    Root(CgroupRoot),
    /// The directory that was named is not a control group of cgroup2.
    Other(PathBuf),
    /// No cgroup2 hierarchy is mounted.
    NotMounted,
}

/// Which IP families the kernel has (`ipv6.disable=1` takes one away).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families([bool; 2]);

impl Families {
    /// Whether the kernel has this family.
    #[must_use]
    pub fn has<F: Family>(self) -> bool {
        self.0[F::INDEX as usize]
    }

    /// The names of those that it does not have, to be logged: the agent serves the other.
    pub fn missing(self) -> impl Iterator<Item = &'static str> {
        let names = [V4::NAME, V6::NAME];
        names.into_iter().zip(self.0).filter_map(|(name, has)| (!has).then_some(name))
    }
}

/// The facts cannot be read.
#[derive(Debug, Error)]
pub enum FactsError {
    /// Capabilities.
    #[error("cannot read the capabilities of this process")]
    Capabilities(#[from] caps::errors::CapsError),
    /// The kernel's version, or the mounts.
    #[error("cannot read what /proc says of this node")]
    Proc(#[from] ProcError),
    /// The file system of the pin root.
    #[error("cannot tell which file system the pin root {path} is on")]
    PinRoot {
        /// The pin root, or the deepest directory above it that exists.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The control group.
    #[error("cannot tell which control groups there are")]
    Cgroup(#[source] io::Error),
}

impl Facts {
    /// Reads them from the node. Changes nothing. Without a directory that is named for it, the
    /// control group is looked for where cgroup2 is mounted.
    ///
    /// # Errors
    ///
    /// If `/proc`, the pin root's file system or a control group cannot be read.
    pub fn gather(
        pin_root: &Path,
        serves_sockets: bool,
        cgroup_root: Option<&Path>,
    ) -> Result<Self, FactsError> {
        let kernel = KernelVersion::current()?;
        let mut mounts = Vec::new();
        for mount in Process::myself()?.mountinfo()? {
            mounts.push((mount.fs_type, mount.mount_point));
        }
        let mounted = |kind: &'static str| {
            let mounts = mounts.iter().filter(move |(fs_type, _)| fs_type == kind);
            mounts.map(|(_, at)| at.clone())
        };
        let cgroup = match cgroup_root {
            _ if !serves_sockets => CgroupFacts::Unwanted,
            Some(path) => CgroupRoot::at(path)
                .map_err(FactsError::Cgroup)?
                .map_or_else(|| CgroupFacts::Other(path.to_owned()), CgroupFacts::Root),
            None => CgroupRoot::find(mounted("cgroup2"))
                .map_err(FactsError::Cgroup)?
                .map_or(CgroupFacts::NotMounted, CgroupFacts::Root),
        };
        Ok(Self {
            root: geteuid().is_root(),
            capabilities: effective_capabilities()?,
            kernel: (kernel.major, kernel.minor),
            btf: Path::new(KERNEL_BTF).exists(),
            jit: fs::read_to_string(JIT).map_or(true, |enabled| enabled.trim() != "0"),
            pin_root: pin_root.to_owned(),
            pin_root_on_bpffs: on_bpffs(pin_root)?,
            bpffs: mounted("bpf").next(),
            cgroup,
            families: Families(
                ["ipv4", "ipv6"].map(|name| Path::new("/proc/sys/net").join(name).exists()),
            ),
        })
    }
}

fn effective_capabilities() -> Result<CapsHashSet, caps::errors::CapsError> {
    caps::read(None, CapSet::Effective)
}

/// Whether the path, or the deepest directory above it that exists, is on a BPF file system.
fn on_bpffs(path: &Path) -> Result<bool, FactsError> {
    for path in path.ancestors() {
        match rustix::fs::statfs(path) {
            Ok(fs) => return Ok(u64::try_from(fs.f_type) == Ok(BPF_FS_MAGIC)),
            Err(Errno::NOENT) => {}
            Err(errno) => {
                return Err(FactsError::PinRoot { path: path.to_owned(), source: errno.into() });
            }
        }
    }
    Ok(false)
}

/// What of all that Sixfour needs is lacking; empty if it can start.
///
/// One family is enough: a node without IPv6 is served in IPv4, and the other way round.
#[must_use]
pub fn check(facts: &Facts) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let missing = missing_capabilities(&facts.capabilities);
    if !missing.is_empty() {
        lacks.push(Lack::Capabilities { root: facts.root, missing });
    }
    if facts.kernel < OLDEST_KERNEL {
        lacks.push(Lack::Kernel(facts.kernel.0, facts.kernel.1));
    }
    if !facts.btf {
        lacks.push(Lack::Btf);
    }
    if !facts.jit {
        lacks.push(Lack::Jit);
    }
    if !facts.pin_root_on_bpffs {
        lacks
            .push(Lack::Bpffs { pin_root: facts.pin_root.clone(), elsewhere: facts.bpffs.clone() });
    }
    match &facts.cgroup {
        CgroupFacts::NotMounted => lacks.push(Lack::Cgroup2),
        CgroupFacts::Other(path) => lacks.push(Lack::CgroupRoot(path.clone())),
        CgroupFacts::Unwanted | CgroupFacts::Root(_) => {}
    }
    lacks
}

/// For maps and programs, to attach these, and for the verifier to let programs compare pointers.
const NEEDED_CAPABILITIES: [Capability; 3] =
    [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON];

/// `CAP_SYS_ADMIN` contains the others, except for `CAP_NET_ADMIN`.
fn missing_capabilities(effective: &HashSet<Capability>) -> Vec<Capability> {
    let has = |needed: &Capability| {
        let admin = effective.contains(&Capability::CAP_SYS_ADMIN);
        effective.contains(needed) || (admin && *needed != Capability::CAP_NET_ADMIN)
    };
    NEEDED_CAPABILITIES.into_iter().filter(|needed| !has(needed)).collect()
}

#[cfg(test)]
mod tests;
