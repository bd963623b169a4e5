// SPDX-License-Identifier: Apache-2.0
//! rustup's nightly as the compiler for BPF: `core` is compiled from the component rust-src.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::toolchain::{Provider, Toolchain};
use crate::{
    process::{Run as _, command},
    report,
};

/// Where rust-src has `core`, below the sysroot.
const CORE: &str = "lib/rustlib/src/rust/library/core/Cargo.toml";

/// The nightly, if it is installed with rust-src.
///
/// # Errors
///
/// If it is not.
pub(super) fn present() -> Result<Toolchain> {
    let rustc = which("rustc")?;
    let sysroot = rustc.ancestors().nth(2).unwrap_or(Path::new("/"));
    if !sysroot.join(CORE).is_file() {
        bail!("the nightly toolchain has no component rust-src");
    }
    Toolchain::new(Provider::Rustup, which("cargo")?.into(), rustc)
}

/// Installs the nightly, or what it lacks.
///
/// # Errors
///
/// If rustup is missing or fails.
pub(super) fn install() -> Result<Toolchain> {
    let why = "to compile `core` for BPF";
    if which("rustc").is_ok() {
        report::step(format_args!("rustup component add rust-src clippy to nightly: {why}"));
        command("rustup")
            .args(["component", "add", "--toolchain", "nightly", "rust-src", "clippy"])
            .run()?;
    } else {
        report::step(format_args!("rustup toolchain install nightly with rust-src: {why}"));
        command("rustup")
            .args(["toolchain", "install", "nightly", "--no-self-update", "--profile", "minimal"])
            .args(["--component", "rust-src,clippy"])
            .run()?;
    }
    present()
}

/// The nightly's cargo-clippy.
///
/// # Errors
///
/// If the component clippy is not installed.
pub(super) fn cargo_clippy() -> Result<PathBuf> {
    which("cargo-clippy")
        .ok()
        .filter(|path| path.is_file())
        .context("the nightly toolchain has no component clippy")
}

/// Where the nightly has `program`.
fn which(program: &str) -> Result<PathBuf> {
    let path = command("rustup")
        .args(["which", "--toolchain", "nightly", program])
        .run_quietly()
        .context("rustup has no nightly toolchain")?;
    Ok(path.trim().into())
}
