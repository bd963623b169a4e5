// SPDX-License-Identifier: Apache-2.0
//! Running other commands.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Variables that `cargo run` and the rustup proxies set for xtask, and that would mislead
/// what xtask starts: another toolchain's cargo would take over `RUSTC`, and a distribution's
/// rustc would load the libraries of rustup's through `LD_LIBRARY_PATH`.
const SET_BY_CARGO: [&str; 9] = [
    "CARGO",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
    "LD_LIBRARY_PATH",
    "OUT_DIR",
    "RUSTC",
    "RUSTDOC",
    "RUST_RECURSION_COUNT",
];
const SET_BY_CARGO_PREFIXES: [&str; 3] = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_EXE_"];

/// A command that starts at the top of the workspace, without what cargo put into the
/// environment of xtask.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let _ = command.current_dir(workspace::root()).stdin(Stdio::null());
    for (name, _) in env::vars_os().filter(|(name, _)| is_set_by_cargo(name)) {
        let _ = command.env_remove(name);
    }
    command
}

fn is_set_by_cargo(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        SET_BY_CARGO.contains(&name)
            || SET_BY_CARGO_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

/// The cargo that runs xtask: that of the user's default toolchain, not rustup's proxy.
pub(crate) fn cargo_path() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A command of the cargo that runs xtask.
pub(crate) fn cargo() -> Command {
    command(cargo_path())
}

/// Whether xtask runs as root.
pub(crate) fn is_root() -> bool {
    // The owner of a process's own folder is its effective user.
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Finds a program on `PATH` and in the folders for administrators, which a user's `PATH`
/// may lack.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// How xtask runs commands: the error names the command and how it ended.
pub(crate) trait Run {
    /// Runs the command with its output shown; fails if it does.
    fn run(&mut self) -> Result<()>;

    /// Runs the command and returns its standard output; standard error is shown.
    fn read(&mut self) -> Result<String>;

    /// Runs the command with its output hidden, unless it fails: then the error has it.
    fn run_quietly(&mut self) -> Result<String>;
}

impl Run for Command {
    fn run(&mut self) -> Result<()> {
        let status = self.status().with_context(|| format!("cannot run {}", words(self)))?;
        if !status.success() {
            bail!("`{}` failed: {status}", words(self));
        }
        Ok(())
    }

    fn read(&mut self) -> Result<String> {
        let output = self
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot run {}", words(self)))?;
        if !output.status.success() {
            bail!("`{}` failed: {}", words(self), output.status);
        }
        text(&output.stdout, self)
    }

    fn run_quietly(&mut self) -> Result<String> {
        let Output { status, stdout, stderr } =
            self.output().with_context(|| format!("cannot run {}", words(self)))?;
        if !status.success() {
            let said = [stdout, stderr].concat();
            let said = String::from_utf8_lossy(&said);
            bail!("`{}` failed: {status}\n{}", words(self), said.trim_end());
        }
        text(&stdout, self)
    }
}

fn text(output: &[u8], command: &Command) -> Result<String> {
    let text = str::from_utf8(output)
        .with_context(|| format!("`{}` printed something else than text", words(command)))?;
    Ok(text.to_owned())
}

/// The command as one would type it.
fn words(command: &Command) -> String {
    let words: Vec<_> = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}
