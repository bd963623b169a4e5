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

/// A machine that tests run on besides this one.
pub(crate) struct Guest {
    /// Its name without spaces.
    pub(crate) name: &'static str,
    /// The series of its kernel.
    series: &'static str,
    /// What is said to the kernel when it boots.
    parameters: &'static str,
}

/// The oldest kernel that Sixfour supports, which has clsact only; one that has TCX; and one
/// without IPv6.
pub(crate) const GUESTS: [Guest; 3] = [
    Guest { name: "6.1", series: "6.1", parameters: "" },
    Guest { name: "6.12", series: "6.12", parameters: "" },
    Guest { name: "6.12-ipv6.disable", series: "6.12", parameters: "ipv6.disable=1" },
];

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

/// A guest that is ready to boot.
pub(crate) struct Prepared<'a> {
    guest: &'static Guest,
    programs: Vec<Program<'a>>,
    qemu: Tools,
    kernel: Kernel,
    image: PathBuf,
}

impl<'a> Prepared<'a> {
    /// Prepares `guest` with the newest kernel of its series, to run `programs`, with `sixfour` at
    /// the path that `SIXFOUR_BIN` names and the `tools` of this machine on `PATH`.
    ///
    /// # Errors
    ///
    /// If the kernel or qemu cannot be had, or the image not be built.
    pub(crate) fn new(
        guest: &'static Guest,
        programs: Vec<Program<'a>>,
        sixfour: &Path,
        tools: &[&str],
    ) -> Result<Self> {
        let qemu = Tools::get()?;
        let kernel = Kernel::newest(guest.series)?;
        let image = image::build(guest, &kernel, &qemu, &programs, sixfour, tools)?;
        Ok(Self { guest, programs, qemu, kernel, image })
    }

    /// Boots it and runs the programs; once more, if qemu has failed as it does now and then.
    ///
    /// # Errors
    ///
    /// If it does not start, or not end in time. A program that fails is an outcome, not an error.
    pub(crate) fn boot(&self) -> Result<Boot> {
        let Self { guest, programs, qemu, kernel, image } = self;
        let limit = programs.iter().map(|program| program.limit).sum();
        let boot = || {
            report::step(format_args!("booting Linux {} {}", kernel.release(), guest.parameters));
            machine::boot(guest, kernel, qemu, image, limit)
        };
        let (mut outcomes, mut console) = boot()?;
        if machine::met_old_text(&console) {
            report::note(format_args!(
                "qemu ran text that the kernel had replaced, and will be started again: {}",
                end_of_console(&console)
            ));
            (outcomes, console) = boot()?;
        }
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
}
