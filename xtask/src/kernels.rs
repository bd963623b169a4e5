// SPDX-License-Identifier: Apache-2.0
//! Test programs under other kernels than this machine's: Debian's, booted in qemu without KVM,
//! each with an image of its own that has the programs and what they need.

mod image;
mod machine;
mod packages;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::report;
pub(crate) use machine::end_of_console;
use packages::{Kernel, Tools};

/// The series of kernels that Sixfour is tested with: the oldest that it supports, which has
/// clsact only, and one that has TCX.
pub(crate) const SERIES: [&str; 2] = ["6.1", "6.12"];

/// A test program for the guest.
pub(crate) struct Program<'a> {
    /// A name without spaces.
    pub(crate) name: &'a str,
    /// The program on this machine.
    pub(crate) path: PathBuf,
    /// Its arguments, without spaces.
    pub(crate) arguments: &'a [&'a str],
    /// How long it may take, in seconds.
    pub(crate) limit: u32,
}

/// How a program ended in the guest.
pub(crate) struct Outcome {
    /// The program's name.
    pub(crate) name: String,
    /// Its exit code; `None` if the guest died before it ended.
    pub(crate) code: Option<i32>,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
}

/// What a boot showed.
pub(crate) struct Boot {
    /// The release of the kernel, such as `6.1.0-56-cloud-amd64`.
    pub(crate) release: String,
    /// How each program ended, in their order.
    pub(crate) outcomes: Vec<Outcome>,
    /// What the guest printed.
    pub(crate) console: PathBuf,
}

/// Boots the newest kernel of `series` and runs `programs` in it, with `sixfour` at the path
/// that `SIXFOUR_BIN` names and the `tools` of this machine on `PATH`.
///
/// # Errors
///
/// If the kernel or qemu cannot be had or started, or the image not be built. A program that
/// fails is an outcome, not an error.
pub(crate) fn run(
    series: &str,
    programs: &[Program<'_>],
    sixfour: &Path,
    tools: &[&str],
) -> Result<Boot> {
    let qemu = Tools::get()?;
    let kernel = Kernel::newest(series)?;
    report::step(format_args!("booting Linux {}", kernel.release()));
    let image = image::build(&kernel, &qemu, programs, sixfour, tools)?;
    let limit = programs.iter().map(|program| program.limit).sum();
    let (outcomes, console) = machine::boot(&kernel, &qemu, &image, limit)?;
    let outcomes = programs
        .iter()
        .map(|program| {
            let ended = outcomes.iter().find(|outcome| outcome.name == program.name);
            Outcome {
                name: program.name.to_owned(),
                code: ended.and_then(|outcome| outcome.code),
                seconds: ended.map_or(0.0, |outcome| outcome.seconds),
            }
        })
        .collect();
    Ok(Boot { release: kernel.release().to_owned(), outcomes, console })
}
