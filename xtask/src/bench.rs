// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench`: what an operator asks before switching, measured on this machine, between
//! network namespaces of its own.
//!
//! Sections measure; [`rounds`] interleaves what they compare, [`load`] tells when others had the
//! machine, [`processors`] says what runs where, and [`report`] shows what came of it.

mod comparison;
mod control_plane;
mod evidence;
mod iperf;
mod kube_proxy;
mod load;
mod machine;
mod network;
mod packets;
mod paths;
pub(crate) mod peer;
mod processors;
mod report;
mod rounds;
mod setup;
mod sizes;
mod work;

use std::{path::PathBuf, time::Instant};

use anyhow::{Result, ensure};
use clap::{Subcommand, ValueEnum};

use crate::report::step;
use machine::Machine;
use report::Report;
use setup::Setup;

/// How to measure.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    alone: Option<Alone>,
    /// Take about two minutes: fewer rounds, shorter windows, smaller sizes
    #[arg(long)]
    quick: bool,
    /// Measure these sections only
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SECTION")]
    only: Vec<Section>,
    /// Of the sections `paths` and `sizes`, measure only works with this in their title
    #[arg(long, value_name = "TEXT")]
    work: Option<String>,
    /// Write into the README which goals are reached here
    #[arg(long, conflicts_with_all = ["quick", "only", "work"])]
    readme: bool,
    /// How much of the machine others may have, in percent, before a round is dropped and repeated
    #[arg(long, default_value_t = 5.0, value_name = "PERCENT")]
    tolerate: f64,
    /// Measure this agent instead of building one
    #[arg(long, value_name = "FILE")]
    sixfour: Option<PathBuf>,
}

/// What is run by itself, without a report.
#[derive(Subcommand)]
enum Alone {
    /// Load the rules that kube-proxy writes, and connect through them
    KubeProxy(kube_proxy::trial::Args),
    /// Run iperf3 over each path in both families, and print one table within two minutes
    Iperf(Box<iperf::Args>),
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Throughput, connections and latency on each path to a backend
    Paths,
    /// The same as Services and flows grow in number
    Sizes,
    /// Nanoseconds a packet takes in each program
    Packets,
    /// From changes at the API to connections, the agent's start and its memory
    ControlPlane,
}

impl Section {
    fn measure(self, setup: &Setup) -> Result<report::Section> {
        match self {
            Self::Paths => paths::run(setup),
            Self::Sizes => sizes::run(setup),
            Self::Packets => packets::run(setup),
            Self::ControlPlane => control_plane::run(setup),
        }
    }
}

/// Builds everything, measures, and writes the report.
///
/// # Errors
///
/// If something is missing, does not build, or does not work as it must. A goal that is missed is
/// shown, and is no error.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.alone {
        Some(Alone::KubeProxy(args)) => kube_proxy::trial::run(args),
        Some(Alone::Iperf(args)) => iperf::run(args),
        None => report(args),
    }
}

fn report(args: &Args) -> Result<()> {
    let setup = Setup::new(args.quick, part(args.tolerate)?, args.sixfour.as_deref())?;
    let setup = setup.with_works(args.work.as_deref());
    let start = Instant::now();
    let mut report = Report { machine: Machine::here()?, quick: args.quick, sections: Vec::new() };
    for section in Section::value_variants() {
        if args.only.is_empty() || args.only.contains(section) {
            report.sections.push(section.measure(&setup)?);
        }
    }
    report.publish()?;
    if args.readme {
        report.tell_readme()?;
    }
    step(format_args!("measured for {:.0} s, building aside", start.elapsed().as_secs_f64()));
    Ok(())
}

/// What `--tolerate` says, as a part of the machine.
fn part(percent: f64) -> Result<f64> {
    ensure!((0.0..=100.0).contains(&percent), "--tolerate is a part of 100");
    Ok(percent / 100.0)
}
