// SPDX-License-Identifier: Apache-2.0

//! Nanoseconds a packet: each compiled program under `BPF_PROG_TEST_RUN`, beside floors.
//!
//! Times are of the thread's own processor time. Programs take turns within a round, and what the
//! same driver takes with a program that does nothing is subtracted within the round.

mod drivers;
mod entries;
mod figures;
mod frontends;
mod gauge;
mod live;
mod measure;
mod opened;
mod peers;
mod scenario;
mod stand;
mod subject;
mod turns;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;

use crate::figures::Figures;

/// What to measure.
#[derive(Parser)]
struct Args {
    /// The object of drivers and floors.
    #[arg(long)]
    gauge: PathBuf,
    /// How often each program is run in turns.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Packets in each turn.
    #[arg(long, default_value_t = 200_000)]
    packets: u32,
    /// The part of a turn that others may have of the processor, or the round is repeated.
    #[arg(long, default_value_t = 0.05)]
    tolerate: f64,
    /// Flows that there are.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1 << 12, 1 << 16])]
    flows: Vec<u32>,
    /// Frontends that there are, where their number is what is measured.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100_000])]
    frontends: Vec<u32>,
    /// Measure only scenarios with this in their names.
    #[arg(long, default_value = "")]
    only: String,
    /// Where the figures go, as JSON; a table is printed without.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    // Devices and mounts of its own.
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("making a network and a mount namespace (are you root?)")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .context("making mounts private")?;
    drivers::join_network()?;
    let _sink = live::Sink::new(&args.gauge)?;
    let mut processor = CpuSet::new();
    processor.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &processor)?;

    let mut figures = Figures::default();
    for flows in &args.flows {
        scenario::run(&args, *flows, &mut figures)?;
    }
    frontends::run(&args, &mut figures)?;
    if let Some(path) = &args.json {
        return figures.write(path);
    }
    figures.print();
    Ok(())
}
