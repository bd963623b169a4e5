// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask build-ebpf`: the BPF programs, built into one object with BTF and debug info.

mod debian;
mod linker;
mod rustup;
mod toolchain;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{process::Run as _, report, workspace};
use toolchain::Toolchain;

/// The package of the BPF programs, and its binaries: those of the agent, and those that the benchmark
/// of single packets measures them with.
const PACKAGE: &str = "proxy-ebpf";
const BINARY: &str = "sixfour-bpf";
const GAUGE: &str = "gauge-bpf";
const TARGET: &str = "bpfel-unknown-none";

/// The feature that makes another version of the ABI, in each package that has it.
pub(crate) const OTHER_ABI: &str = "other-abi";

/// What would change or replace the compiler or its flags if it came in from outside.
const BUILD_SETTINGS: [&str; 8] = [
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
];

/// Builds the BPF object, installing the toolchain for it the first time, and returns its path.
///
/// # Errors
///
/// If no toolchain can be had, or the programs do not build.
pub(crate) fn build() -> Result<PathBuf> {
    let toolchain = toolchain::select()?;
    let linker = linker::ensure(&toolchain)?;
    report::step(format_args!("building the BPF programs with {toolchain}"));
    with_bpf_target(toolchain.cargo().arg("build"), &toolchain, &linker).run()?;

    let object = workspace::bpf_object();
    publish(BINARY, &object)?;
    publish(GAUGE, &workspace::gauge_object())?;
    Ok(object)
}

/// Builds the object of another version of the ABI, for tests of upgrades, and returns its path.
///
/// # Errors
///
/// If no toolchain can be had, or the programs do not build.
pub(crate) fn build_other_abi() -> Result<PathBuf> {
    let toolchain = toolchain::select()?;
    let linker = linker::ensure(&toolchain)?;
    report::step("building the BPF programs of another ABI version");
    with_bpf_target(toolchain.cargo().arg("build"), &toolchain, &linker)
        .args(["--bin", BINARY, "--features", OTHER_ABI])
        .run()?;
    let object = workspace::target("other-abi/sixfour.bpf.o");
    publish(BINARY, &object)?;
    Ok(object)
}

/// Runs clippy over the BPF programs as they are compiled for BPF. Where the toolchain has no
/// clippy, they are linted for the host alone, which is said.
///
/// # Errors
///
/// If no toolchain can be had, or clippy warns.
pub(crate) fn lint() -> Result<()> {
    let toolchain = toolchain::select()?;
    match toolchain.cargo_clippy() {
        Ok(cargo_clippy) => {
            report::step(format_args!("clippy for {TARGET} with {toolchain}"));
            let linker = linker::ensure(&toolchain)?;
            with_bpf_target(toolchain.command(cargo_clippy).arg("clippy"), &toolchain, &linker)
                .args(["--", "-Dwarnings"])
                .run()
        }
        Err(reason) => {
            report::note(format_args!(
                "clippy saw the BPF programs as compiled for the host alone: {reason:#}"
            ));
            Ok(())
        }
    }
}

/// Gives a cargo command the package, the target and the flags of the BPF programs.
fn with_bpf_target<'a>(
    cargo: &'a mut Command,
    toolchain: &Toolchain,
    linker: &Path,
) -> &'a mut Command {
    for name in BUILD_SETTINGS {
        let _ = cargo.env_remove(name);
    }
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".to_owned(),
        // What is cleared or moved is so in words, in place; else it is in a loop over its bytes.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
    ];
    cargo
        // In this form flags may contain spaces, as the path of the linker may.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args(["--quiet", "--release", "--package", PACKAGE, "--target", TARGET])
        .args(toolchain.build_std().then_some("-Zbuild-std=core"))
        .arg("--target-dir")
        .arg(build_folder())
}

/// Where the BPF programs are compiled: apart, so that two compilers do not undo each
/// other's work.
fn build_folder() -> PathBuf {
    workspace::target("bpf-build")
}

/// Copies a binary to `object` in one step if their contents differ. An object that is left alone
/// does not make cargo compile the agent again.
fn publish(binary: &str, object: &Path) -> Result<()> {
    let built = build_folder().join(TARGET).join("release").join(binary);
    let content = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    if !content.windows(BTF_SECTION.len()).any(|window| window == BTF_SECTION) {
        bail!("{} has no BTF: the linker ignored --btf", built.display());
    }
    if fs::read(object).is_ok_and(|present| present == content) {
        report::step(format_args!("{} is up to date", object.display()));
        return Ok(());
    }
    let folder = object.parent().context("the object is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Written outside the folder, which cargo watches for the agent.
    let scratch = build_folder().join(format!("{binary}.{}", std::process::id()));
    fs::write(&scratch, &content)
        .and_then(|()| fs::rename(&scratch, object))
        .with_context(|| format!("cannot write {}", object.display()))?;
    report::step(format_args!("wrote {}", object.display()));
    Ok(())
}

/// The name of the section with the types, as it stands in the table of section names.
const BTF_SECTION: &[u8] = b".BTF\0";
