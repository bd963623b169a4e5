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
mod overload;
mod packets;
mod paths;
pub(crate) mod peer;
mod processors;
mod report;
mod rounds;
mod setup;
mod sizes;
mod unfinished;
mod uplink;
mod work;

use std::{collections::BTreeSet, path::PathBuf, time::Instant};

use anyhow::{Result, ensure};
use clap::{Subcommand, ValueEnum};

use crate::report::{note, step};
use machine::Machine;
use report::Report;
use setup::Setup;
use work::Work;

/// How much of the machine others may have in a round, in percent, unless `--tolerate` says it.
const TOLERATED: f64 = 5.0;

/// How to measure.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    alone: Option<Alone>,
    /// Take about five minutes: fewer rounds, shorter windows, smaller sizes
    #[arg(long)]
    quick: bool,
    /// Measure these sections only
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SECTION")]
    only: Vec<Section>,
    /// Of the sections `paths`, `uplink` and `sizes`, measure only works with this in their titles
    #[arg(long, value_name = "TEXT")]
    work: Option<String>,
    /// Write into the README which goals are reached here
    #[arg(long, conflicts_with_all = ["quick", "only", "work", "tolerate", "sixfour"])]
    readme: bool,
    /// Go on with what a run of the same commit has measured on this machine that did not come to its end
    #[arg(long, conflicts_with_all = ["only", "work", "tolerate", "sixfour"])]
    go_on: bool,
    /// How much of the machine others may have, in percent, before a round is dropped and repeated
    #[arg(long, default_value_t = TOLERATED, value_name = "PERCENT")]
    tolerate: f64,
    /// Measure this agent instead of building one; the section `packets` builds its programs anyway
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Throughput, connections and latency on each path to a backend
    Paths,
    /// The same of clients outside to backends on other nodes, with programs in drivers and without
    Uplink,
    /// The same as Services and flows grow in number
    Sizes,
    /// Nanoseconds a packet takes in each program
    Packets,
    /// From changes at the API to connections, the agent's start and its memory
    ControlPlane,
    /// New connections beside floods of SYNs, and what it takes to keep a large table clean
    Overload,
}

impl Section {
    /// Those of its works that are measured, if it has any, and if there is no time for all.
    const fn works(self, is_quick: bool) -> &'static [Work] {
        match self {
            Self::Paths => paths::works(is_quick),
            Self::Uplink => uplink::works(is_quick),
            Self::Sizes => sizes::works(is_quick),
            Self::Packets | Self::ControlPlane | Self::Overload => &[],
        }
    }

    fn measure(self, setup: &Setup) -> Result<report::Section> {
        match self {
            Self::Paths => paths::run(setup),
            Self::Uplink => uplink::run(setup),
            Self::Sizes => sizes::run(setup),
            Self::Packets => packets::run(setup),
            Self::ControlPlane => control_plane::run(setup),
            Self::Overload => overload::run(setup),
        }
    }
}

impl Args {
    /// Whether everything is measured, as it is built here and as it should be.
    const fn is_whole(&self) -> bool {
        self.only.is_empty()
            && self.work.is_none()
            && self.sixfour.is_none()
            && self.tolerate == TOLERATED
    }

    /// The sections that are asked for, those aside that have works, but none with the title asked for.
    ///
    /// # Errors
    ///
    /// If no work of any has it.
    fn sections(&self) -> Result<Vec<Section>> {
        let is_wanted = |section: &Section| self.only.is_empty() || self.only.contains(section);
        let sections = Section::value_variants().iter().copied().filter(is_wanted);
        let Some(text) = &self.work else { return Ok(sections.collect()) };
        let works = |section: Section| section.works(self.quick).iter();
        let has = |section: Section| works(section).any(|work| work.title.contains(text));
        let titles: BTreeSet<_> = sections.clone().flat_map(works).map(|work| work.title).collect();
        let titles = titles.into_iter().collect::<Vec<_>>().join("; ");
        ensure!(
            sections.clone().any(has),
            "--work {text}: it is in the title of no work that would be measured, which are: {titles}"
        );
        Ok(sections.filter(|section| works(*section).len() == 0 || has(*section)).collect())
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
    let sections = args.sections()?;
    let setup = Setup::new(args.quick, part(args.tolerate)?, args.sixfour.as_deref())?;
    let setup = setup.with_works(args.work.as_deref());
    let start = Instant::now();
    let mut report = Report { machine: Machine::here()?, quick: args.quick, sections: Vec::new() };
    if args.go_on {
        match unfinished::find(&report.machine, args.quick)? {
            Some(before) => report = before,
            None => note(format_args!("there is nothing to go on with: everything is measured")),
        }
    }
    let is_whole = args.is_whole();
    for section in sections.into_iter().skip(report.sections.len()) {
        report.sections.push(section.measure(&setup)?);
        if is_whole {
            unfinished::keep(&report)?;
        }
    }
    report.publish()?;
    if is_whole {
        unfinished::forget()?;
    }
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

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _, ValueEnum as _};

    use super::{Args, Section};

    fn parse(line: &str) -> Result<Args, clap::Error> {
        let words = ["bench"].into_iter().chain(line.split_terminator('|'));
        let matches = Args::augment_args(Command::new("bench")).try_get_matches_from(words)?;
        Args::from_arg_matches(&matches)
    }

    fn sections(line: &str) -> Result<Vec<Section>, String> {
        parse(line).unwrap().sections().map_err(|error| error.to_string())
    }

    #[test]
    fn the_readme_tells_of_everything_as_it_is_built_here() {
        assert!(parse("--readme").is_ok());
        for other in ["--quick", "--only|paths", "--work|UDP", "--tolerate|9", "--sixfour|/a"] {
            assert!(parse(other).is_ok());
            assert!(parse(&format!("--readme|{other}")).is_err(), "{other}");
        }
    }

    #[test]
    fn works_are_chosen_by_their_titles() {
        let [paths, uplink, sizes, packets, control_plane, overload] = *Section::value_variants()
        else {
            panic!("there are others")
        };
        for (line, wanted) in [
            ("", vec![paths, uplink, sizes, packets, control_plane, overload]),
            ("--only|packets,paths", vec![paths, packets]),
            ("--work|connections", vec![paths, uplink, sizes, packets, control_plane, overload]),
            ("--work|UDP", vec![paths, uplink, packets, control_plane, overload]),
            ("--work|UDP|--only|uplink,sizes", vec![uplink]),
            ("--work|requests|--quick", vec![paths, packets, control_plane, overload]),
        ] {
            assert_eq!(sections(line).unwrap(), wanted, "{line}");
        }
    }

    #[test]
    fn works_that_there_are_not_are_an_error_that_names_those_that_there_are() {
        let error = sections("--work|four streams|--quick").unwrap_err();
        assert!(error.contains("iperf3 TCP, one stream; iperf3 UDP, 64 bytes"), "{error}");
        assert!(!error.contains("iperf3 TCP, four streams"), "{error}");
        assert!(sections("--work|four streams").is_ok());
        assert!(sections("--work|UDP|--only|sizes").is_err());
        assert!(sections("--work|UDP|--only|packets").is_err());
    }
}
