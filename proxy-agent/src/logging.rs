// SPDX-License-Identifier: Apache-2.0
//! Structured logs.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::cli::LogFormat;

/// What says too much at each level to be of use to an operator: every relocation of the BPF
/// object. A directive that names the crate still shows it.
const QUIETER: [&str; 2] = ["aya_obj", "aya"];

/// Sends logs to standard error.
pub fn init(level: &Targets, format: LogFormat) {
    let registry = tracing_subscriber::registry().with(filter(level));
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => registry.with(layer.with_ansi(io::stderr().is_terminal())).init(),
        LogFormat::Json => registry.with(layer.json()).init(),
    }
}

fn filter(level: &Targets) -> Targets {
    let default = level.default_level().unwrap_or(LevelFilter::OFF);
    let quieter = QUIETER.map(|target| (target, default.min(LevelFilter::INFO)));
    Targets::new().with_default(default).with_targets(quieter).with_targets(level.iter())
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::filter;

    #[test]
    fn the_library_is_quieter_unless_it_is_named() {
        let shows = |level: &str, target: &str, at: Level| {
            filter(&level.parse().unwrap()).would_enable(target, &at)
        };
        assert!(shows("debug", "proxy_agent", Level::DEBUG));
        assert!(!shows("debug", "aya_obj", Level::DEBUG));
        assert!(shows("debug", "aya_obj", Level::INFO));
        assert!(!shows("warn", "aya_obj", Level::INFO));
        assert!(shows("info,aya_obj=debug", "aya_obj", Level::DEBUG));
    }
}
