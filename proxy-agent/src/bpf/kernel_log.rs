// SPDX-License-Identifier: Apache-2.0
//! What the BPF programs log, joined to the agent's own log.

use std::{
    io::{PipeReader, PipeWriter, pipe},
    thread::{self, JoinHandle},
};

use aya_log::{EbpfLogger, Level};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tracing::warn;

use super::{Error, Object};

/// The target of the programs' messages: the name of their crate.
const TARGET: &str = "sixfour_bpf";

/// The most verbose level at which the log takes messages of the programs, as they compare it:
/// 0 if it takes none. The programs are loaded with it, so that what nobody reads costs nothing.
pub(super) fn level() -> u8 {
    let takes = |level| {
        log::logger().enabled(&log::Metadata::builder().target(TARGET).level(level).build())
    };
    let levels = [
        (log::Level::Trace, Level::Trace),
        (log::Level::Debug, Level::Debug),
        (log::Level::Info, Level::Info),
        (log::Level::Warn, Level::Warn),
        (log::Level::Error, Level::Error),
    ];
    levels.into_iter().find(|(log, _)| takes(*log)).map_or(0, |(_, level)| level as u8)
}

/// Reads the programs' messages, on a thread of its own: a flood of them keeps nobody else from
/// their work. Dropped, it ends, at the latest with the flood.
#[derive(Debug)]
pub struct KernelLog {
    /// Closed, it ends the thread.
    _running: PipeWriter,
}

impl KernelLog {
    /// Begins to pass on the messages of an object's programs. It can be had once for each object.
    ///
    /// # Errors
    ///
    /// If the object has no log, or there can be no thread.
    pub fn spawn(object: &mut Object) -> Result<Self, Error> {
        let logger = EbpfLogger::init(object.ebpf_mut()).map_err(Error::KernelLog)?;
        let (end, running) = pipe().map_err(Error::WaitForKernelLog)?;
        let thread = thread::Builder::new().name("kernel-log".to_owned());
        let _: JoinHandle<()> =
            thread.spawn(move || pass_on(logger, &end)).map_err(Error::WaitForKernelLog)?;
        Ok(Self { _running: running })
    }
}

/// Passes messages on as they come, until the other side of `end` is closed.
fn pass_on(mut logger: EbpfLogger<&'static dyn log::Log>, end: &PipeReader) {
    loop {
        let mut waiting = [PollFd::new(&logger, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        match poll(&mut waiting, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => {
                warn!(%error, "cannot wait for the log of the BPF programs any more");
                return;
            }
        }
        let [messages, ended] = waiting.map(|waited| !waited.revents().is_empty());
        if ended {
            return;
        }
        if messages {
            logger.flush();
        }
    }
}
