// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: sets up the machine, builds, and runs the tests in stages.

pub(crate) mod built;
pub(crate) mod prerequisites;
mod promtool;
mod stage;
mod suites;
mod table;

use std::{panic::resume_unwind, thread, time::Instant};

use anyhow::{Result, bail};

use crate::{
    bpf,
    kernels::{self, Guest, Prepared},
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
    if stages.contains(&Stage::Network) {
        promtool::ensure()?;
    }

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
        for stage in stages {
            match stage {
                Stage::Unit => table.time("unit", || unit(&workspace)),
                Stage::Packet | Stage::Network => {
                    for suite in SUITES.iter().filter(|suite| suite.stage == stage) {
                        table.time(suite.name, || on_this_machine(suite, &workspace));
                    }
                }
                Stage::Kernels => in_guests(&workspace, &mut table),
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

fn on_this_machine(suite: &Suite, workspace: &Workspace) -> Result<Ended> {
    report::step(format_args!("{} tests: {}", suite.name, suite.what));
    cargo()
        .arg("test")
        .args(PACKAGES)
        .args(["--test", suite.name, "--"])
        .args(suite.arguments)
        .env("SIXFOUR_BIN", workspace.sixfour())
        .envs(workspace.other_abi().map(|agent| ("SIXFOUR_OTHER_ABI_BIN", agent)))
        .envs(promtool::unpacked().map(|promtool| ("SIXFOUR_PROMTOOL", promtool)))
        .run()?;
    Ok(Ended::Passed)
}

/// Runs suites in all guests, with one row of the table for each boot and one for each suite in
/// it. The guests run side by side: each keeps little more than one processor busy.
fn in_guests(workspace: &Workspace, table: &mut Table) {
    let prepared: Vec<_> =
        kernels::GUESTS.iter().map(|guest| (guest.name, prepare(guest, workspace))).collect();
    thread::scope(|scope| {
        let boots: Vec<_> = prepared
            .into_iter()
            .map(|(name, guest)| {
                let boot = move || {
                    let start = Instant::now();
                    (guest.and_then(|guest| guest.boot()), start.elapsed())
                };
                (name, scope.spawn(boot))
            })
            .collect();
        for (name, boot) in boots {
            let (boot, time) = boot.join().unwrap_or_else(|panic| resume_unwind(panic));
            table.add_boot(name, boot, time);
        }
    });
}

/// Builds the suites of a guest, and its image.
fn prepare(guest: &'static Guest, workspace: &Workspace) -> Result<Prepared<'static>> {
    let mut programs = Vec::new();
    for suite in &SUITES {
        if let Some((_, arguments)) = suite.guests.iter().find(|(name, _)| *name == guest.name) {
            let path = built::integration_test(suite.name)?;
            let limit = suite.guest_seconds;
            programs.push(kernels::Program { name: suite.name, path, arguments, limit });
        }
    }
    Prepared::new(guest, programs, workspace.sixfour(), &prerequisites::guest_tools())
}
