// SPDX-License-Identifier: Apache-2.0
//! The distribution's rustc as the compiler for BPF. Debian and its like have one recent enough
//! for browsers (rustc-web), and a ready `core` for BPF beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::toolchain::{Provider, Toolchain, is_recent};
use crate::{
    apt::{self, Unpack},
    process::{Run as _, cargo_path, command},
    workspace::{self, MINIMUM_RUST},
};

/// The packages with the compiler and its `core` for BPF.
pub(super) const PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
const CLIPPY_PACKAGE: &str = "rust-web-clippy";

const RUSTC: &str = "/usr/bin/rustc";

/// The distribution's rustc, if it is installed with `core` for BPF.
///
/// # Errors
///
/// If it is not.
pub(super) fn present() -> Result<Toolchain> {
    if !Path::new(RUSTC).is_file() {
        bail!("there is no {RUSTC}");
    }
    let sysroot = command(RUSTC).args(["--print", "sysroot"]).run_quietly()?;
    // Asked of the compiler rather than of the package manager: other distributions name
    // their packages in other ways.
    let core = Path::new(sysroot.trim()).join("lib/rustlib").join(super::TARGET);
    if !core.is_dir() {
        bail!("{RUSTC} has no {}", core.display());
    }
    Toolchain::new(Provider::Debian, cargo_path(), RUSTC.into())
}

/// Installs the distribution's packages.
///
/// # Errors
///
/// If there are none, none recent enough, or apt cannot install them.
pub(super) fn install() -> Result<Toolchain> {
    apt::usable()?;
    let [rustc, core] = PACKAGES;
    // What apt knows of may be old, and its rustc with it: the recent one comes with security
    // updates.
    if !apt::candidate(rustc)?.is_some_and(|version| is_recent(&version)) {
        apt::update()?;
    }
    let version =
        apt::candidate(rustc)?.with_context(|| format!("apt knows no package {rustc}"))?;
    if !is_recent(&version) {
        bail!("its {rustc} is {version}, older than {MINIMUM_RUST}");
    }
    if apt::candidate(core)?.is_none() {
        bail!("apt knows no package {core}");
    }
    apt::install(&PACKAGES, "a rustc with a ready `core` for BPF targets")?;
    present()
}

/// The cargo-clippy of the distribution, unpacked beside the installed compiler: installed,
/// it would conflict with a packaged rustup.
///
/// # Errors
///
/// If the distribution has none of the version of the installed rustc.
pub(super) fn cargo_clippy() -> Result<PathBuf> {
    let version = apt::installed(PACKAGES[0])?
        .with_context(|| format!("{RUSTC} is not of the package {}", PACKAGES[0]))?;
    let folder = workspace::target("tools").join(format!("{CLIPPY_PACKAGE}-{version}"));
    let package = format!("{CLIPPY_PACKAGE}={version}");
    apt::unpack(&[&package], Unpack::Alone, &folder, "clippy for the BPF programs' compiler")?;
    Ok(folder.join("usr/bin/cargo-clippy"))
}
