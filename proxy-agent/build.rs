// SPDX-License-Identifier: Apache-2.0
//! Brings two things into the agent: the BPF object that `cargo xtask build-ebpf` makes, as
//! `$OUT_DIR/sixfour.bpf.o`, and the version with the commit, as `SIXFOUR_VERSION`.
//!
//! Neither is required. Without an object the file is empty, so that `cargo build` succeeds
//! without a compiler for BPF; the agent then says what to run. Without git there is no commit.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Names another object than the workspace's.
const OBJECT_VARIABLE: &str = "SIXFOUR_BPF_OBJECT";
const OBJECT: &str = "sixfour.bpf.o";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = package.parent().expect("the package is a folder of the workspace");
    embed_object(workspace)?;
    println!("cargo::rustc-env=SIXFOUR_VERSION={}", version(workspace));
    Ok(())
}

/// Copies the object to where the agent includes it from; an empty file if there is none.
fn embed_object(workspace: &Path) -> io::Result<()> {
    println!("cargo::rerun-if-env-changed={OBJECT_VARIABLE}");
    let content = if let Some(object) = env::var_os(OBJECT_VARIABLE) {
        let object = PathBuf::from(object);
        watch(&object);
        fs::read(&object).map_err(|error| {
            io::Error::other(format!("{OBJECT_VARIABLE}={}: {error}", object.display()))
        })?
    } else {
        // Cargo takes a watched file that is missing for changed, at every build. A folder
        // is there before and after the object comes or goes, and changes with it.
        let folder = workspace.join("target/bpf");
        fs::create_dir_all(&folder)?;
        watch(&folder);
        match fs::read(folder.join(OBJECT)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            content => content?,
        }
    };
    fs::write(PathBuf::from(variable("OUT_DIR")).join(OBJECT), content)
}

/// The version as `0.1.0 (abc1234)`, or as `0.1.0` where the commit is not known.
fn version(workspace: &Path) -> String {
    let version = variable("CARGO_PKG_VERSION");
    match commit(workspace) {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    }
}

/// The commit that is checked out, abbreviated.
fn commit(workspace: &Path) -> Option<String> {
    // A source archive may lie in the repository of something else.
    if !workspace.join(".git").exists() {
        return None;
    }
    // `HEAD` changes when another branch is checked out, its log also with each commit.
    for name in ["HEAD", "logs/HEAD"] {
        let path = workspace.join(git(workspace, &["rev-parse", "--git-path", name])?);
        if path.exists() {
            watch(&path);
        }
    }
    git(workspace, &["rev-parse", "--short=7", "HEAD"])
}

/// What git says, if it is there and content.
fn git(workspace: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .current_dir(workspace)
        // A build as root in another user's clone, as in a container, only reads.
        .arg("-c")
        .arg(format!("safe.directory={}", workspace.display()))
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| output.status.success() && !text.is_empty())
}

fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

/// A variable that cargo sets for build scripts.
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
