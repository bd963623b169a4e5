// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask demo`: shows the proxy at work. Two nodes with pods, an agent on each, Services
//! recorded from a real cluster, real traffic; everything in network namespaces of its own.

mod asker;
mod cluster;
mod cluster_ips;
mod comparison;
mod connections;
mod keep;
mod outside;
mod recorded;
mod requests;
mod scaling;
mod streams;
mod table;
mod verdict;

use std::{path::PathBuf, time::Instant};

use anyhow::{Result, bail};
use proxy_tests::manifests::Manifests;

use crate::{
    bpf,
    process::is_root,
    report,
    test::{built, prerequisites},
};
use cluster::Cluster;
use recorded::Recorded;
use verdict::Problems;

/// How to run the demo.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave everything up at the end, and say how to look inside
    #[arg(long)]
    keep: bool,
}

/// Builds everything, runs the demo, and takes down what it made.
///
/// # Errors
///
/// If something is missing, does not build, or the proxy does anything wrong. Speed is shown,
/// and judged only where it is off by an order of magnitude.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !is_root() {
        bail!("the demo makes network namespaces and loads BPF programs: run this as root");
    }
    let sixfour = prepare(args)?;
    let start = Instant::now();
    let mut recorded = Recorded::read()?;
    recorded.add(&outside::service())?;
    let topology = cluster::topology(&recorded)?;
    let manifests = Manifests::new()?;
    let mut cluster = Cluster::start(&topology, &manifests, &recorded, &sixfour)?;

    let mut problems = Problems::default();
    table::print_cluster_ips(&cluster_ips::run(&cluster, &recorded, &mut problems));
    table::print_outside(&outside::run(&cluster, &recorded, &mut problems)?);
    table::print_scaling(&scaling::run(&cluster, &recorded, &mut problems)?);
    let mut speed = streams::run(&cluster, &mut problems)?;
    speed.extend(connections::run(&cluster, &mut problems));
    table::print_speed(&speed);
    println!("\nThe demo took {:.0} s, building aside.\n", start.elapsed().as_secs_f64());
    if args.keep {
        problems.report();
        keep::wait(&cluster, &recorded, &sixfour);
    }
    cluster.stop(&mut problems);
    problems.into_result()
}

/// Sets up the machine, builds the agent, and returns its path.
fn prepare(args: &Args) -> Result<PathBuf> {
    prerequisites::ensure_tools(&["iperf3"])?;
    if args.keep {
        prerequisites::ensure_tools(&["curl", "nsenter"])?;
    }
    let _ = bpf::build()?;
    // Not in release mode, which would take minutes more the first time: the agent is not on the
    // way of any packet, and the programs that are have been built for speed in any case.
    report::step("building the agent");
    built::built(&["build", "--package", "proxy-agent"], built::BINARY)
}
