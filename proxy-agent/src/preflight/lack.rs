// SPDX-License-Identifier: Apache-2.0
//! What a node lacks, and what to do about it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use caps::Capability;

use super::{KERNEL_BTF, NEEDED_CAPABILITIES, OLDEST_KERNEL};

/// Where distributions mount the BPF file system.
const USUAL_BPFFS: &str = "/sys/fs/bpf";

/// Something that Sixfour needs and the node lacks; displayed as one sentence with the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// These capabilities are missing.
    Capabilities {
        /// Whether the user is root nevertheless, as in an unprivileged container.
        root: bool,
        /// The missing ones.
        missing: Vec<Capability>,
    },
    /// The kernel is older than [`OLDEST_KERNEL`]: its major and minor version.
    Kernel(u8, u8),
    /// The kernel was built without `CONFIG_DEBUG_INFO_BTF`.
    Btf,
    /// The kernel does not compile BPF programs.
    Jit,
    /// The pin root is not on a BPF file system.
    Bpffs {
        /// The pin root.
        pin_root: PathBuf,
        /// A BPF file system elsewhere.
        elsewhere: Option<PathBuf>,
    },
    /// No cgroup2 hierarchy is mounted.
    Cgroup2,
    /// The directory that was named for it is not a control group of cgroup2.
    CgroupRoot(PathBuf),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capabilities { root, missing } => {
                let who = if *root { "root here lacks" } else { "not root, and without" };
                let (missing, needed) = (enumerated(missing), enumerated(&NEEDED_CAPABILITIES));
                write!(f, "{who} {missing}: run as root, or grant {needed}.")
            }
            Self::Kernel(major, minor) => {
                let (oldest_major, oldest_minor) = OLDEST_KERNEL;
                write!(
                    f,
                    "the kernel is {major}.{minor}, and Sixfour needs {oldest_major}.{oldest_minor} or later."
                )
            }
            Self::Btf => write!(
                f,
                "the kernel has no {KERNEL_BTF}: run one that is built with CONFIG_DEBUG_INFO_BTF=y."
            ),
            Self::Jit => f.write_str(
                "the kernel does not compile BPF programs: let it with `sysctl -w net.core.bpf_jit_enable=1`.",
            ),
            Self::Bpffs { pin_root, elsewhere } => {
                let usual = Path::new(USUAL_BPFFS);
                let at = if pin_root.starts_with(usual) { usual } else { pin_root };
                let (pin_root, at) = (pin_root.display(), at.display());
                write!(
                    f,
                    "the pin root {pin_root} is not on a BPF file system: mount one with `mount -t bpf bpf {at}`"
                )?;
                match elsewhere {
                    Some(found) => {
                        write!(f, ", or name a --pin-root below {}.", found.display())
                    }
                    None => f.write_str("."),
                }
            }
            Self::Cgroup2 => f.write_str(
                "no cgroup2 hierarchy can be seen, and host processes are served through it: mount one (beside cgroup v1 with `mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2`), or run with --socket-lb off.",
            ),
            Self::CgroupRoot(path) => write!(
                f,
                "{} is not a control group of cgroup2: name another --cgroup-root, or none.",
                path.display()
            ),
        }
    }
}

impl std::error::Error for Lack {}

/// `A`, `A and B`, or `A, B and C`.
fn enumerated(capabilities: &[Capability]) -> String {
    let names: Vec<_> = capabilities.iter().map(ToString::to_string).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}
