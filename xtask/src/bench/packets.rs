// SPDX-License-Identifier: Apache-2.0
//! The section on single packets: nanoseconds of each compiled program, beside floors.

mod charts;
mod measured;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use proxy_tests::scratch::Scratch;

use super::{report::Section, setup::Setup};
use crate::{
    bpf,
    process::{Run as _, command},
    report::step,
    test::built::{PACKAGES, built},
    workspace,
};

/// The benchmark's name.
const NAME: &str = "packets";
/// How many flows there are, and in a hurry.
const FLOWS: &str = "1,4096,65536,1048576";
const FEW_FLOWS: &str = "1,4096";
/// How many frontends there are where their number is what is measured, and in a hurry.
const FRONTENDS: [u32; 2] = [10, 100_000];
const FEW_FRONTENDS: [u32; 2] = [10, 1000];
/// Packets in each turn, and in a hurry.
const PACKETS: &str = "200000";
const FEW_PACKETS: &str = "20000";

/// Measures all programs.
///
/// # Errors
///
/// If a program does not do what it is measured for.
pub(super) fn run(setup: &Setup) -> Result<Section> {
    // The programs are those of the source, whichever agent other sections measure.
    let _: PathBuf = bpf::build()?;
    let program = built(&[&["build", "--bench", NAME], &PACKAGES[..]].concat(), NAME)?;
    let scratch = Scratch::new("bench")?;
    let json = scratch.path().join("packets.json");
    let (flows, packets) = if setup.quick { (FEW_FLOWS, FEW_PACKETS) } else { (FLOWS, PACKETS) };
    let frontends = if setup.quick { FEW_FRONTENDS } else { FRONTENDS };
    step(format_args!("nanoseconds a packet, at {flows} flows"));
    command(program)
        .arg("--gauge")
        .arg(workspace::gauge_object())
        .args(["--rounds", &setup.plan.rounds.to_string()])
        .args(["--tolerate", &setup.plan.tolerated.to_string()])
        .args(["--flows", flows, "--packets", packets])
        .args(["--frontends", &frontends.map(|size| size.to_string()).join(",")])
        .arg("--json")
        .arg(&json)
        .run()?;
    let measured = fs::read_to_string(&json)?;
    let measured = serde_json::from_str(&measured).context("reading what the benchmark says")?;
    let charts = charts::all(&measured)?;
    Ok(Section { title: "A packet in the programs".to_owned(), notes: notes(), charts })
}

fn notes() -> Vec<String> {
    vec![
        "Processor time of a program under BPF_PROG_TEST_RUN. A driver writes each packet anew, of \
         another client, and goes on into the program; what it takes with a program that does nothing \
         is subtracted within the round. All flows have been seen once before. Rounds in which the \
         thread was not alone on its processor are repeated."
            .to_owned(),
        "A floor is the least that a program can do for the same result: the same parsing, look-ups and \
         inserts in tables of the same kinds and sizes, one rewrite, and nothing else. `plain` calls a \
         helper for each part of the headers that changes, `follow` as few as that takes. `open` looks up \
         all that a new flow must ask where others write to the tables: the frontend twice, the device, \
         and whose the replies are; `alone` does not."
            .to_owned(),
        "In the driver, packets are of clients outside, to backends elsewhere: both ends are translated \
         at once, and the frame leaves by another device. `stamp_xdp` writes the time into the flow and \
         counts twice, `follow_xdp` does not; neither asks for a route, which the proxy does for each flow \
         once a second, and for each new one: with a million flows a turn takes so long that most packets ask. \
         Both families are measured in the same rounds."
            .to_owned(),
        "To any frontend: each of so many has a Service of its own with ten endpoints, all are asked in turns, and \
         there are as many flows whatever their number. All numbers are measured in the same rounds. What the floor \
         pays for larger tables, the proxy may pay, too."
            .to_owned(),
        "Frames sent from the driver are really sent, in the kernel's live-frames mode, in batches of 64: they come \
         by a veth and leave by it again, to a driver that drops them. `swap_xdp` changes their MAC addresses and \
         nothing else. The rate includes writing each frame anew and dropping it, and is by the kernel's clock, not \
         by processor time."
            .to_owned(),
    ]
}
