// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench iperf`: the quick answer, one table of iperf3 over all paths in both families.

mod here;

use anyhow::Result;

use super::work::Work;

/// What is measured.
const WORKS: [Work; 3] = [Work::STREAM, Work::STREAMS, Work::DATAGRAMS];

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    here: here::Options,
}

/// Measures, and prints the table.
///
/// # Errors
///
/// If something is missing, or does not work as it must.
pub(crate) fn run(args: &Args) -> Result<()> {
    here::run(&args.here)
}
