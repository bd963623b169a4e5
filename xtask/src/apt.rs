// SPDX-License-Identifier: Apache-2.0
//! Packages of Debian and its like: installed where others should find them (compilers, network
//! tools), or only unpacked into `target/` where they serve xtask alone (kernels, qemu). What is
//! unpacked changes nothing on the machine and cannot conflict with what is installed.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{Run as _, command, find, is_root},
    report,
};

/// Says why packages cannot be installed here, if they cannot.
pub(crate) fn usable() -> Result<()> {
    if find("apt-get").is_none() {
        bail!("this system has no apt-get");
    }
    if !is_root() {
        bail!("apt-get needs root");
    }
    Ok(())
}

/// The version of `package` that apt would install; `None` if apt knows no such package.
///
/// # Errors
///
/// If `apt-cache` fails.
pub(crate) fn candidate(package: &str) -> Result<Option<String>> {
    policy(package, "Candidate:")
}

/// The version of `package` that is installed, if any is.
///
/// # Errors
///
/// If `apt-cache` fails.
pub(crate) fn installed(package: &str) -> Result<Option<String>> {
    policy(package, "Installed:")
}

fn policy(package: &str, field: &str) -> Result<Option<String>> {
    let policy = command("apt-cache").args(["policy", package]).env("LC_ALL", "C").read()?;
    Ok(policy
        .lines()
        .find_map(|line| line.trim().strip_prefix(field))
        .map(|version| version.trim().to_owned())
        .filter(|version| version != "(none)"))
}

/// The names of all packages that start with `prefix` and end with `suffix`.
///
/// # Errors
///
/// If `apt-cache` fails.
pub(crate) fn names(prefix: &str, suffix: &str) -> Result<Vec<String>> {
    let names = command("apt-cache").args(["pkgnames", prefix]).read()?;
    Ok(names.lines().filter(|name| name.ends_with(suffix)).map(str::to_owned).collect())
}

/// Fetches the lists of packages.
///
/// # Errors
///
/// If `apt-get` fails.
pub(crate) fn update() -> Result<()> {
    report::step("apt-get update: the lists of packages are missing or out of date");
    apt_get().arg("update").run_quietly().map(drop)
}

/// Installs `packages`, saying why.
///
/// # Errors
///
/// If that is not possible here, or only by removing other packages.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    usable()?;
    report::step(format_args!("apt-get install {}: {why}", packages.join(" ")));
    with_fresh_lists(|| {
        apt_get()
            // What a person has installed is never removed for the sake of a test.
            .args(["install", "--no-install-recommends", "--no-remove"])
            .args(packages)
            .run_quietly()
            .map(drop)
    })
}

/// Which packages to unpack.
#[derive(Clone, Copy)]
pub(crate) enum Unpack {
    /// Only those named.
    Alone,
    /// Those named, and of their dependencies those that are not installed.
    WithDependencies,
}

/// Unpacks `packages` into `folder`, unless it exists, saying why.
///
/// # Errors
///
/// If a package cannot be fetched or unpacked; `folder` does not exist then.
pub(crate) fn unpack(packages: &[&str], which: Unpack, folder: &Path, why: &str) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    usable()?;
    report::step(format_args!("unpacking {}: {why}", packages.join(" ")));
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let scratch = folder.with_file_name(format!(".{name}.{}", process::id()));
    let result = fetch(packages, which, &scratch.join("archives")).and_then(|archives| {
        let tree = scratch.join("tree");
        for archive in archives {
            let _ = command("dpkg").arg("-x").args([&archive, &tree]).run_quietly()?;
        }
        // The tree appears whole or not at all, also when another xtask does the same.
        match fs::rename(&tree, folder) {
            Err(error) if !folder.exists() => {
                Err(error).with_context(|| format!("cannot create {}", folder.display()))
            }
            _ => Ok(()),
        }
    });
    let _ = fs::remove_dir_all(&scratch);
    result
}

/// Fetches the archives of `packages` into `folder`.
fn fetch(packages: &[&str], which: Unpack, folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder.join("partial"))
        .with_context(|| format!("cannot create {}", folder.display()))?;
    with_fresh_lists(|| match which {
        Unpack::Alone => {
            apt_get().current_dir(folder).arg("download").args(packages).run_quietly().map(drop)
        }
        Unpack::WithDependencies => apt_get()
            .args(["install", "--download-only", "--no-install-recommends", "-o"])
            .arg(format!("Dir::Cache::archives={}", folder.display()))
            .args(packages)
            .run_quietly()
            .map(drop),
    })?;
    let mut archives = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("deb")) {
            archives.push(path);
        }
    }
    Ok(archives)
}

/// Tries again with fresh lists: a fresh machine has none, and old ones name versions that are
/// gone from the mirrors.
fn with_fresh_lists(attempt: impl Fn() -> Result<()>) -> Result<()> {
    if attempt().is_ok() {
        return Ok(());
    }
    update()?;
    attempt()
}

fn apt_get() -> process::Command {
    let mut apt_get = command("apt-get");
    let _ = apt_get.env("DEBIAN_FRONTEND", "noninteractive").args([
        "-q",
        "-y",
        "-o",
        "DPkg::Lock::Timeout=120",
    ]);
    apt_get
}
