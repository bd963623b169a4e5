// SPDX-License-Identifier: Apache-2.0

//! Running a program on many frames, and the time that takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{
    Program, ProgramFd, SchedClassifier, TestRun as _, TestRunAttrs, TestRunOptions, Xdp,
};
use nix::sys::resource::{UsageWho, getrusage};
use proxy_common::gauge::Recipe;
use rustix::time::{ClockId, clock_gettime};

use crate::gauge::loaded;

/// How often a thread may be taken off its processor in a run, where that is how others are told of.
const SWITCHES: i64 = 2;

/// How many frames the kernel has a driver handle at once, as from a network card: `NAPI_POLL_WEIGHT`.
const BATCH: u32 = 64;

/// Room for the longest frame that a program makes.
const ROOM: usize = 256;

/// Drives programs under test.
pub(crate) struct Driver {
    /// Of the stack's programs, and of drivers'.
    names: [String; 2],
    programs: [ProgramArray<MapData>; 2],
    recipe: Array<MapData, Recipe>,
}

/// Packets that go through a program.
pub(crate) struct Packets {
    pub(crate) recipe: Recipe,
    /// The length of a frame, in bytes.
    pub(crate) length: usize,
    /// Whether the program is one of network drivers.
    pub(crate) in_driver: bool,
    /// The return code that the program must end with.
    pub(crate) code: i32,
}

/// What came of a run.
pub(crate) struct Run {
    /// Of the thread's processor time, by packet; of frames that are really sent, of all time.
    pub(crate) nanoseconds: f64,
    /// The part of the time that others may have had the processor.
    pub(crate) disturbed: f64,
    /// The last frame.
    pub(crate) frame: Vec<u8>,
}

impl Driver {
    /// The drivers of these names in the object: of the stack's programs, and of those of network drivers.
    pub(crate) fn new(ebpf: &mut Ebpf, names: [String; 2]) -> Result<Self> {
        for name in &names {
            let _ = loaded(ebpf, name)?;
        }
        Ok(Self {
            names,
            programs: [
                ebpf.take_map("PROGRAM").context("PROGRAM")?.try_into()?,
                ebpf.take_map("DRIVERS_PROGRAM").context("DRIVERS_PROGRAM")?.try_into()?,
            ],
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
        let at = usize::from(packets.in_driver);
        let driver = ebpf.program(&self.names[at]).context("there is no driver")?;
        self.programs[at].set(0, under_test, 0)?;
        self.recipe.set(0, packets.recipe, 0)?;
        let mut frame = vec![0; ROOM];
        let options = TestRunOptions {
            data_in: Some(&packets.recipe.frame[..packets.length]),
            data_out: Some(&mut frame),
            repeat: count,
            ..TestRunOptions::default()
        };
        let switches = switches()?;
        let (begin, start) = (Instant::now(), processor_time());
        let result = match driver {
            Program::Xdp(driver) => driver.test_run(options)?,
            driver => <&SchedClassifier>::try_from(driver)?.test_run(options)?,
        };
        let spent = processor_time() - start;
        let elapsed = begin.elapsed().as_secs_f64() * 1e9;
        // Before and after it runs a driver's program, the kernel changes its own text, and waits for that.
        let was_alone = packets.in_driver && self::switches()? <= switches + SWITCHES;
        let disturbed = if was_alone { 0.0 } else { 1.0 - spent / elapsed };
        let code = result.return_value.cast_signed();
        ensure!(code == packets.code, "a program returned {code} instead of {}", packets.code);
        packets.recipe.next = self.recipe.get(&0, 0)?.next;
        frame.truncate(usize::try_from(result.data_size_out)?);
        Ok(Run { nanoseconds: spent / f64::from(count), disturbed, frame })
    }

    /// Has a program of drivers handle as many frames as `count` that come by a device, and the kernel do what the
    /// program says to each: in live-frames mode. The packets go on from where the run ends.
    pub(crate) fn send(
        &mut self,
        ebpf: &Ebpf,
        under_test: &ProgramFd,
        packets: &mut Packets,
        count: u32,
        device: u32,
    ) -> Result<Run> {
        let driver: &Xdp =
            ebpf.program(&self.names[1]).context("there is no driver")?.try_into()?;
        self.programs[1].set(0, under_test, 0)?;
        self.recipe.set(0, packets.recipe, 0)?;
        // `struct xdp_md`: the frame's beginning and end, its metadata, the device, and the queue there.
        let context = [0, u32::try_from(packets.length)?, 0, device, 0, 0];
        let context: Vec<u8> = context.into_iter().flat_map(u32::to_ne_bytes).collect();
        let options = TestRunOptions {
            data_in: Some(&packets.recipe.frame[..packets.length]),
            ctx_in: Some(&context),
            repeat: count,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        };
        let (switches, begin, start) = (switches()?, Instant::now(), processor_time());
        // All time, as the peer's driver gets frames in interrupts of this thread, whose clock may leave them out; by
        // the kernel, which looks at the clock neither before it is ready nor after the last frame.
        let spent = driver.test_run(options)?.duration;
        let was_alone = self::switches()? <= switches + SWITCHES;
        let part = (processor_time() - start) / (begin.elapsed().as_secs_f64() * 1e9);
        let disturbed = if was_alone { 0.0 } else { 1.0 - part };
        packets.recipe.next = self.recipe.get(&0, 0)?.next;
        Ok(Run { nanoseconds: spent.as_secs_f64() * 1e9, disturbed, frame: Vec::new() })
    }
}

/// How often the thread has been taken off its processor against its will.
fn switches() -> Result<i64> {
    Ok(getrusage(UsageWho::RUSAGE_THREAD)?.involuntary_context_switches())
}

/// The thread's processor time, in nanoseconds.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("it is not negative").as_secs_f64() * 1e9
}
