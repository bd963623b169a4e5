// SPDX-License-Identifier: Apache-2.0

//! Guests: machines that tests have to themselves.

use std::fs;

use anyhow::{Context as _, Result, ensure};

/// What the kernel of a guest is told when it boots, and that of no other
/// machine.
pub const WORD: &str = "sixfour.guest";

/// An error anywhere but in a guest; for what would touch all of a machine.
pub fn ensure_here() -> Result<()> {
    let words = fs::read_to_string("/proc/cmdline").context("reading how the kernel was booted")?;
    ensure!(
        words.split_whitespace().any(|word| word == WORD),
        "this is done in guests only, which `cargo xtask test --stage kernels` boots: it would \
         touch the sockets of all processes of this machine"
    );
    Ok(())
}
