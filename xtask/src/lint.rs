// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask lint`: formatting and clippy, with warnings denied.

use anyhow::Result;

use crate::{
    bpf,
    process::{Run as _, cargo, command},
    report,
};

/// The components of rustup that linting needs, and how to ask for their versions.
const COMPONENTS: [(&str, &str); 2] = [("rustfmt", "fmt"), ("clippy", "clippy")];

/// Checks formatting, then runs clippy over the workspace for the host, and over the BPF
/// programs for their own target.
///
/// # Errors
///
/// If anything is to be said against the code, or a tool is missing.
pub(crate) fn run() -> Result<()> {
    for (component, verb) in COMPONENTS {
        if cargo().args([verb, "--version"]).run_quietly().is_err() {
            report::step(format_args!("rustup component add {component}: to lint"));
            command("rustup").args(["component", "add", component]).run()?;
        }
    }
    report::step("checking the formatting");
    cargo().args(["fmt", "--all", "--check"]).run()?;
    report::step("clippy for this machine");
    cargo()
        .args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-Dwarnings"])
        .run()?;
    bpf::lint()
}
