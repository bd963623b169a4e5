// SPDX-License-Identifier: Apache-2.0

//! Commands that end by themselves, run in a namespace.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::Namespace;

impl Namespace {
    /// Runs `ip` with these words, for kinds of devices that
    /// [`Netlink`](super::Netlink) does not make.
    pub fn ip(&self, words: &str) -> Result<()> {
        self.output("ip", words, "").map(drop)
    }

    /// Runs a program with these words and this input, and returns what it
    /// prints.
    pub fn output(&self, program: &str, words: &str, input: &str) -> Result<String> {
        let doing = || format!("{program} {words}");
        self.run(|| {
            let mut child = self
                .command(program)
                .args(words.split_whitespace())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .with_context(doing)?;
            child.stdin.take().context("it has an input")?.write_all(input.as_bytes())?;
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{} {}: {said}", doing(), output.status);
            String::from_utf8(output.stdout).with_context(doing)
        })
    }
}
