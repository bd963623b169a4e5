// SPDX-License-Identifier: Apache-2.0
//! Which compiler builds the BPF programs.
//!
//! Rust ships no ready `core` for BPF targets. Either it is built along, which takes a nightly
//! cargo and the sources of `core` ([`super::rustup`]), or the distribution has it as a package
//! ([`super::debian`]). What is there is used; else what is lighter is installed.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{debian, rustup};
use crate::{
    process::{Run as _, command},
    report,
    workspace::MINIMUM_RUST,
};

/// Who provides a toolchain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    /// rustup's nightly, with the sources of `core`.
    Rustup,
    /// The distribution, with a ready `core` for BPF.
    Debian,
}

/// A compiler for BPF with the cargo to run it.
pub(super) struct Toolchain {
    provider: Provider,
    cargo: OsString,
    rustc: PathBuf,
    /// The version of rustc, such as `1.96.0`.
    release: String,
    /// The version of the LLVM in rustc, such as `22.1.8`.
    llvm: String,
}

impl Toolchain {
    /// Describes the toolchain of `rustc`.
    ///
    /// # Errors
    ///
    /// If `rustc` does not run, or is older than the workspace's minimum.
    pub(super) fn new(provider: Provider, cargo: OsString, rustc: PathBuf) -> Result<Self> {
        let said = command(&rustc).arg("-vV").read()?;
        let field = |name: &str| {
            said.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|value| value.trim().to_owned())
                .with_context(|| format!("`{} -vV` has no line `{name}`", rustc.display()))
        };
        let release = field("release:")?;
        let llvm = field("LLVM version:")?;
        if !is_recent(&release) {
            bail!("{} is {release}, older than {MINIMUM_RUST}", rustc.display());
        }
        Ok(Self { provider, cargo, rustc, release, llvm })
    }

    /// Its cargo.
    pub(super) fn cargo(&self) -> Command {
        self.command(&self.cargo)
    }

    /// A command that is a cargo, or acts as one, and that uses this toolchain.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = command(program);
        let _ = command
            .env("CARGO", &self.cargo)
            .env("RUSTC", &self.rustc)
            // A released rustc has the features that BPF needs, behind this.
            .env("RUSTC_BOOTSTRAP", "1");
        command
    }

    /// The cargo-clippy of this toolchain.
    ///
    /// # Errors
    ///
    /// If it has none; says why.
    pub(super) fn cargo_clippy(&self) -> Result<PathBuf> {
        match self.provider {
            Provider::Rustup => rustup::cargo_clippy(),
            Provider::Debian => debian::cargo_clippy(),
        }
    }

    /// Whether cargo has to compile `core`.
    pub(super) fn build_std(&self) -> bool {
        self.provider == Provider::Rustup
    }

    /// The compiler.
    pub(super) fn rustc(&self) -> &Path {
        &self.rustc
    }

    /// The version of LLVM as `MAJOR.MINOR.PATCH`.
    pub(super) fn llvm(&self) -> &str {
        &self.llvm
    }

    /// What tells the LLVM in this toolchain from any other, as part of a file's name.
    pub(super) fn key(&self) -> String {
        format!("rustc-{}-llvm-{}", self.release, self.llvm)
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (provider, why) = match self.provider {
            Provider::Rustup => ("rustup's nightly", "it has the sources of `core`"),
            Provider::Debian => ("the system's", "no nightly of rustup has the sources of `core`"),
        };
        write!(formatter, "{provider} rustc {}, LLVM {} ({why})", self.release, self.llvm)
    }
}

/// Whether the version `release` is the workspace's minimum or later.
pub(super) fn is_recent(release: &str) -> bool {
    let number = |version: &str| {
        let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().ok());
        Some((parts.next()??, parts.next()??))
    };
    number(release) >= number(MINIMUM_RUST)
}

/// Finds a toolchain, or installs one.
///
/// # Errors
///
/// If none can be had: the error has the reason for each.
pub(super) fn select() -> Result<Toolchain> {
    if let Ok(toolchain) = rustup::present().or_else(|_| debian::present()) {
        return Ok(toolchain);
    }
    report::step("the BPF programs need a rustc with `core` for BPF, and there is none yet");
    let no_debian = match debian::install() {
        Ok(toolchain) => return Ok(toolchain),
        Err(reason) => reason,
    };
    report::note(format_args!("not from the distribution: {no_debian:#}"));
    match rustup::install() {
        Ok(toolchain) => Ok(toolchain),
        Err(no_rustup) => bail!(
            "no compiler for BPF can be had. The distribution's: {no_debian:#}. \
             rustup's: {no_rustup:#}. Either of these mends it: \
             `rustup toolchain install nightly --component rust-src` with a network, \
             or as root `apt-get install {}` on Debian",
            debian::PACKAGES.join(" ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_versions_by_number() {
        for recent in ["1.101.0-nightly", "1.96.0+dfsg1-1~deb12u2", "2.0.0", MINIMUM_RUST] {
            assert!(is_recent(recent), "{recent}");
        }
        for old in ["1.9.0", "1.63.0+dfsg1-2", "unknown"] {
            assert!(!is_recent(old), "{old}");
        }
    }
}
