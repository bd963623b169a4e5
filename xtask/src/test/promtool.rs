// SPDX-License-Identifier: Apache-2.0
//! promtool, which checks rules and pages of metrics: unpacked, as its package would have Prometheus run on this machine.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    apt::{self, Unpack},
    process::{Run as _, command, find},
    workspace,
};

const NAME: &str = "promtool";

/// Where it is, if it was unpacked.
pub(super) fn unpacked() -> Option<PathBuf> {
    Some(folder().join("usr/bin").join(NAME)).filter(|path| path.exists())
}

/// Has it be there, installed or unpacked.
///
/// # Errors
///
/// If it can be neither found nor fetched, or does not run.
pub(super) fn ensure() -> Result<()> {
    if find(NAME).is_some() {
        return Ok(());
    }
    let why = "to check rules and metrics for Prometheus";
    apt::unpack(&["prometheus"], Unpack::Alone, &folder(), why)?;
    let promtool = unpacked().context("the package prometheus has no promtool")?;
    let _ = command(promtool).arg("--version").run_quietly()?;
    Ok(())
}

fn folder() -> PathBuf {
    workspace::target("tools/prometheus")
}
