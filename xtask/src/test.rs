// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: sets up the machine, builds, and runs the tests in stages.

pub(crate) mod built;
pub(crate) mod prerequisites;
mod stage;
mod suites;
mod table;

use std::{
    panic::resume_unwind,
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    bpf,
    kernels::{self, Boot, Guest, Prepared, Program, Share},
    process::{Run as _, cargo, is_root},
    report,
};
use built::{PACKAGES, Workspace};
use stage::Stage;
use suites::{SUITES, Suite};
use table::{Ended, Table};

/// Which tests to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run this stage only; may be given several times
    #[arg(long = "stage", value_enum, value_name = "NAME")]
    stages: Vec<Stage>,
}

/// Runs the stages, goes on past a stage that fails, and prints a table at the end.
///
/// # Errors
///
/// If a prerequisite is missing, something does not build, or a test fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let stages: Vec<_> = Stage::ALL
        .into_iter()
        .filter(|s| args.stages.is_empty() || args.stages.contains(s))
        .collect();
    if let Some(stage) = stages.iter().find(|stage| stage.needs_root()).filter(|_| !is_root()) {
        bail!("the stage `{stage}` needs root: run this as root, or with `--stage unit` alone");
    }
    prerequisites::ensure(&stages)?;

    let mut table = Table::default();
    let mut workspace = None;
    table.time("build", || {
        let other_object = if stages.contains(&Stage::Network) {
            Some(bpf::build_and_other_abi()?)
        } else {
            let _ = bpf::build()?;
            None
        };
        report::step("building the agent");
        workspace = Some(Workspace::build(other_object.as_deref())?);
        Ok(Ended::Passed)
    });
    if let Some(workspace) = workspace {
        let both = [Stage::Network, Stage::Kernels].iter().all(|stage| stages.contains(stage));
        for stage in stages {
            match stage {
                Stage::Unit => table.time("unit", || unit(&workspace)),
                Stage::Network if both => thread::scope(|scope| {
                    let packets = scope.spawn(|| in_guests(&workspace, Part::Packet));
                    suites(stage, &workspace, &mut table);
                    let boots = packets.join().unwrap_or_else(|panic| resume_unwind(panic));
                    table.add_boots(boots);
                }),
                Stage::Packet | Stage::Network => suites(stage, &workspace, &mut table),
                Stage::Kernels => {
                    let part = if both { Part::Others } else { Part::All };
                    table.add_boots(in_guests(&workspace, part));
                }
            }
        }
    }
    table.print();
    if table.has_failures() {
        bail!("not all tests passed");
    }
    Ok(())
}

/// All tests that need nothing: those in the crates, and the integration tests that are not suites of
/// other stages.
fn unit(workspace: &Workspace) -> Result<Ended> {
    report::step("unit and golden tests");
    let others = workspace
        .tests()
        .iter()
        .filter(|test| SUITES.iter().all(|suite| suite.name != test.as_str()))
        .flat_map(|test| ["--test", test]);
    cargo().arg("test").args(PACKAGES).args(["--lib", "--bins"]).args(others).run()?;
    cargo().arg("test").args(PACKAGES).arg("--doc").run()?;
    cargo().args(["test", "--package", "proxy-ebpf"]).run()?;
    Ok(Ended::Passed)
}

fn suites(stage: Stage, workspace: &Workspace, table: &mut Table) {
    for suite in SUITES.iter().filter(|suite| suite.stage == stage) {
        table.time(suite.name, || on_this_machine(suite, workspace));
    }
}

fn on_this_machine(suite: &Suite, workspace: &Workspace) -> Result<Ended> {
    report::step(format_args!("{} tests: {}", suite.name, suite.what));
    cargo()
        .arg("test")
        .args(PACKAGES)
        .args(["--test", suite.name, "--"])
        .args(suite.arguments)
        .env("SIXFOUR_BIN", workspace.sixfour())
        .envs(workspace.other_abi().map(|agent| ("SIXFOUR_OTHER_ABI_BIN", agent)))
        .run()?;
    Ok(Ended::Passed)
}

/// Which suites of guests run in one boot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    /// That of the packet stage, which takes most of a guest's time and looks at no clock but its own: beside the
    /// network stage, whose suites leave half of the processors' time to others.
    Packet,
    /// The rest, which sends traffic and waits for it: alone.
    Others,
}

impl Part {
    fn has(self, suite: &Suite) -> bool {
        self == Self::All || (self == Self::Packet) == (suite.stage == Stage::Packet)
    }

    /// How many times longer its suites may take than a guest that has a processor for itself.
    const fn patience(self) -> u32 {
        if matches!(self, Self::Packet) { 3 } else { 1 }
    }
}

/// Runs suites in all guests that have any, and returns for each boot its name, what it showed and how long it took. The
/// guests run side by side: each keeps little more than one processor busy.
fn in_guests(workspace: &Workspace, part: Part) -> Vec<(String, Result<Boot>, Duration)> {
    let prepared: Vec<_> = kernels::GUESTS
        .iter()
        .map(|guest| (name(guest, part), prepare(guest, part, workspace)))
        .filter_map(|(name, guest)| Some((name, guest.transpose()?)))
        .collect();
    thread::scope(|scope| {
        let boots: Vec<_> = prepared
            .into_iter()
            .map(|(name, guest)| {
                let boot = move || {
                    let start = Instant::now();
                    (name, guest.and_then(|guest| guest.boot()), start.elapsed())
                };
                scope.spawn(boot)
            })
            .collect();
        let join = |boot: ScopedJoinHandle<'_, _>| {
            boot.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        boots.into_iter().map(join).collect()
    })
}

/// The name of a boot.
fn name(guest: &Guest, part: Part) -> String {
    let part = if part == Part::Packet { "-packet" } else { "" };
    format!("{}{part}", guest.name)
}

/// Builds the suites of a guest, and its image; nothing where it has none.
fn prepare(
    guest: &'static Guest,
    part: Part,
    workspace: &Workspace,
) -> Result<Option<Prepared<'static>>> {
    let mut programs = Vec::new();
    for suite in SUITES.iter().filter(|suite| part.has(suite)) {
        if let Some((_, arguments)) = suite.guests.iter().find(|(name, _)| *name == guest.name) {
            let path = built::integration_test(suite.name)?;
            let limit = suite.guest_seconds * part.patience();
            programs.push(Program { name: suite.name, path, arguments, limit });
        }
    }
    if programs.is_empty() {
        return Ok(None);
    }
    let share = if part == Part::Packet { Share::Idle } else { Share::Full };
    let run = kernels::Run { guest, name: name(guest, part), programs, share };
    Prepared::new(run, workspace.sixfour(), &prerequisites::guest_tools()).map(Some)
}
