// SPDX-License-Identifier: Apache-2.0
//! What the BPF programs log, joined to the agent's own log.

use std::{convert::Infallible, fmt};

use aya_log::{EbpfLogger, Level};
use tokio::io::{Interest, unix::AsyncFd};

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

/// Reads the programs' messages.
pub struct KernelLog(AsyncFd<EbpfLogger<&'static dyn log::Log>>);

impl fmt::Debug for KernelLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("KernelLog").finish_non_exhaustive()
    }
}

impl KernelLog {
    /// The messages of an object's programs. It can be had once for each object.
    ///
    /// # Errors
    ///
    /// If the object has no log, or it cannot be waited for.
    pub fn open(object: &mut Object) -> Result<Self, Error> {
        let logger = EbpfLogger::init(object.ebpf_mut()).map_err(Error::KernelLog)?;
        // SAFETY: the logger owns its descriptor, and keeps it.
        let waiting = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
        Ok(Self(waiting.map_err(|error| Error::WaitForKernelLog(error.into()))?))
    }

    /// Passes messages on as they come.
    ///
    /// # Errors
    ///
    /// If the kernel does not let it wait for more.
    pub async fn run(mut self) -> Result<Infallible, Error> {
        loop {
            let mut ready = self.0.readable_mut().await.map_err(Error::WaitForKernelLog)?;
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }
}
