// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench iperf`: the quick answer, one table of iperf3 over all paths in both families:
//! between network namespaces of this machine ([`here`]), or between pods of a cluster ([`cluster`]).

mod cluster;
mod here;

use std::path::PathBuf;

use anyhow::Result;

use super::work::Work;

/// What is measured.
const WORKS: [Work; 3] = [Work::STREAM, Work::STREAMS, Work::DATAGRAMS];

/// Where and how to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Measure between pods of the cluster that this kubeconfig names, instead of on this machine
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    cluster: cluster::InCluster,
    #[command(flatten)]
    here: here::Here,
}

/// Measures, and prints the table.
///
/// # Errors
///
/// If something is missing, or does not work as it must.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.kubeconfig {
        Some(kubeconfig) => cluster::run(kubeconfig, &args.cluster),
        None => here::run(&args.here),
    }
}
