// SPDX-License-Identifier: Apache-2.0

//! Running a program on many frames, and the time that takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{ProgramFd, SchedClassifier, TestRun as _, TestRunOptions};
use proxy_common::gauge::Recipe;
use rustix::time::{ClockId, clock_gettime};

/// Room for the longest frame that a program makes.
const ROOM: usize = 256;

/// Drives programs under test.
pub(crate) struct Driver {
    program: String,
    programs: ProgramArray<MapData>,
    recipe: Array<MapData, Recipe>,
}

/// Packets that go through a program.
pub(crate) struct Packets {
    pub(crate) recipe: Recipe,
    /// The length of a frame, in bytes.
    pub(crate) length: usize,
    /// The return code that the program must end with.
    pub(crate) code: i32,
}

/// What came of a run.
pub(crate) struct Run {
    /// Of the thread's processor time, by packet.
    pub(crate) nanoseconds: f64,
    /// The part of the time that others had the processor.
    pub(crate) disturbed: f64,
    /// The last frame.
    pub(crate) frame: Vec<u8>,
}

impl Driver {
    /// The driver of this name in the object.
    pub(crate) fn new(ebpf: &mut Ebpf, program: String) -> Result<Self> {
        Ok(Self {
            program,
            programs: ebpf.take_map("PROGRAM").context("PROGRAM")?.try_into()?,
            recipe: ebpf.take_map("RECIPE").context("RECIPE")?.try_into()?,
        })
    }

    /// Runs a program on as many frames as `count`. The packets go on from where the run ends.
    pub(crate) fn run(
        &mut self,
        ebpf: &Ebpf,
        under_test: &ProgramFd,
        packets: &mut Packets,
        count: u32,
    ) -> Result<Run> {
        let driver = ebpf.program(&self.program).context("there is no driver")?;
        let driver: &SchedClassifier = driver.try_into()?;
        self.programs.set(0, under_test, 0)?;
        self.recipe.set(0, packets.recipe, 0)?;
        let mut frame = vec![0; ROOM];
        let options = TestRunOptions {
            data_in: Some(&packets.recipe.frame[..packets.length]),
            data_out: Some(&mut frame),
            repeat: count,
            ..TestRunOptions::default()
        };
        let (begin, start) = (Instant::now(), processor_time());
        let result = driver.test_run(options)?;
        let spent = processor_time() - start;
        let disturbed = 1.0 - spent / (begin.elapsed().as_secs_f64() * 1e9);
        let code = result.return_value.cast_signed();
        ensure!(code == packets.code, "a program returned {code} instead of {}", packets.code);
        packets.recipe.next = self.recipe.get(&0, 0)?.next;
        frame.truncate(usize::try_from(result.data_size_out)?);
        Ok(Run { nanoseconds: spent / f64::from(count), disturbed, frame })
    }
}

/// The thread's processor time, in nanoseconds.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("it is not negative").as_secs_f64() * 1e9
}
