// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask build-ebpf`: the BPF programs, built into one object with BTF and debug info.

mod debian;
mod linker;
mod rustup;
mod toolchain;

use std::{
    fs,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::Command,
    thread,
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
    build_with(&toolchain, &linker::ensure(&toolchain)?)
}

/// The same, and besides the object of another version of the ABI, for tests of upgrades, whose path is returned: at
/// once, as either keeps one processor busy for most of its time.
///
/// # Errors
///
/// If no toolchain can be had, or the programs do not build.
pub(crate) fn build_and_other_abi() -> Result<PathBuf> {
    let toolchain = toolchain::select()?;
    let linker = linker::ensure(&toolchain)?;
    thread::scope(|scope| {
        let other = scope.spawn(|| build_other_abi(&toolchain, &linker));
        let built = build_with(&toolchain, &linker);
        let other = other.join().unwrap_or_else(|panic| resume_unwind(panic));
        built.and(other)
    })
}

fn build_with(toolchain: &Toolchain, linker: &Path) -> Result<PathBuf> {
    report::step(format_args!("building the BPF programs with {toolchain}"));
    let folder = build_folder();
    with_bpf_target(toolchain.cargo().arg("build"), toolchain, linker, &folder).run()?;
    let object = workspace::bpf_object();
    publish(&folder, BINARY, &object)?;
    publish(&folder, GAUGE, &workspace::gauge_object())?;
    Ok(object)
}

fn build_other_abi(toolchain: &Toolchain, linker: &Path) -> Result<PathBuf> {
    report::step("building the BPF programs of another ABI version");
    let folder = workspace::target("bpf-build-other-abi");
    with_bpf_target(toolchain.cargo().arg("build"), toolchain, linker, &folder)
        .args(["--bin", BINARY, "--features", OTHER_ABI])
        .run()?;
    let object = workspace::target("other-abi/sixfour.bpf.o");
    publish(&folder, BINARY, &object)?;
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
            let mut clippy = toolchain.command(cargo_clippy);
            with_bpf_target(clippy.arg("clippy"), &toolchain, &linker, &build_folder())
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

/// Gives a cargo command the package, the target, the flags and the folder of the BPF programs.
fn with_bpf_target<'a>(
    cargo: &'a mut Command,
    toolchain: &Toolchain,
    linker: &Path,
    folder: &Path,
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
        .arg(folder)
}

/// Where the BPF programs are compiled: apart, so that two compilers do not undo each
/// other's work.
fn build_folder() -> PathBuf {
    workspace::target("bpf-build")
}

/// Copies a binary from its folder to `object` in one step if their contents differ. An object that is left alone
/// does not make cargo compile the agent again.
fn publish(folder: &Path, binary: &str, object: &Path) -> Result<()> {
    let built = folder.join(TARGET).join("release").join(binary);
    let content = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    if !content.windows(BTF_SECTION.len()).any(|window| window == BTF_SECTION) {
        bail!("{} has no BTF: the linker ignored --btf", built.display());
    }
    if fs::read(object).is_ok_and(|present| present == content) {
        report::step(format_args!("{} is up to date", object.display()));
        return Ok(());
    }
    let place = object.parent().context("the object is in a folder")?;
    fs::create_dir_all(place).with_context(|| format!("cannot create {}", place.display()))?;
    // Written outside the folder, which cargo watches for the agent.
    let scratch = folder.join(format!("{binary}.{}", std::process::id()));
    fs::write(&scratch, &content)
        .and_then(|()| fs::rename(&scratch, object))
        .with_context(|| format!("cannot write {}", object.display()))?;
    report::step(format_args!("wrote {}", object.display()));
    Ok(())
}

/// The name of the section with the types, as it stands in the table of section names.
const BTF_SECTION: &[u8] = b".BTF\0";
