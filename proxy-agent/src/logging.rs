// SPDX-License-Identifier: Apache-2.0
//! Structured logs.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{
    EnvFilter, filter::ParseError, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::cli::LogFormat;

/// What each level says too much of to be of use to an operator: every relocation of the BPF
/// object. A directive that names the crate still shows it.
const QUIETER: &str = "aya_obj=info,aya=info";

/// Sends logs to standard error.
///
/// # Errors
///
/// If the level is neither one nor a list of directives.
pub fn init(level: &str, format: LogFormat) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(format!("{QUIETER},{level}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => registry.with(layer.with_ansi(io::stderr().is_terminal())).init(),
        LogFormat::Json => registry.with(layer.json()).init(),
    }
    Ok(())
}
