// SPDX-License-Identifier: Apache-2.0
//! iperf3 between network namespaces of this machine.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};

use super::WORKS;
use crate::{
    bench::{
        comparison,
        machine::Machine,
        network::{Ground, Layout, Network},
        part, paths,
        report::{self, Chart},
        setup::Setup,
        work::Work,
    },
    report::step,
};

/// How to measure here.
#[derive(clap::Args)]
pub(super) struct Here {
    /// How much of the machine others may have, in percent, before a round is dropped and repeated
    #[arg(long, default_value_t = 5.0, value_name = "PERCENT", conflicts_with = "kubeconfig")]
    tolerate: f64,
    /// Measure this agent instead of building one
    #[arg(long, value_name = "FILE", conflicts_with = "kubeconfig")]
    sixfour: Option<PathBuf>,
}

/// Measures, and prints the table.
///
/// # Errors
///
/// If something is missing, does not build, or does not work as it must.
pub(super) fn run(options: &Here) -> Result<()> {
    let setup = Setup::new(true, part(options.tolerate)?, options.sixfour.as_deref())?;
    let start = Instant::now();
    let ground = Ground::new(Layout::OnNode, comparison::kinds(&paths::all(WORKS[0])))?;
    let network = Network::start(&ground, &setup)?;
    let charts = WORKS.map(|work| throughput(&setup, &network, work));
    let charts = charts.into_iter().collect::<Result<Vec<_>>>()?;
    network.stop()?;
    println!("\niperf3 on {}\n\n{}\n", Machine::here()?, report::together(&charts));
    step(format_args!("measured for {:.0} s, building aside", start.elapsed().as_secs_f64()));
    Ok(())
}

/// What arrives by each path, without what it took of the processors.
fn throughput(setup: &Setup, network: &Network<'_>, work: Work) -> Result<Chart> {
    let charts = comparison::measure(setup, network, work, &paths::all(work), None)?;
    charts.into_iter().next().context("a work has a first quantity")
}
