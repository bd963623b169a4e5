// SPDX-License-Identifier: Apache-2.0
//! The clock of the programs.

use proxy_common::clock::Tick;
use rustix::time::{ClockId, clock_gettime};

/// The present on the clock of the programs.
#[must_use]
pub fn now() -> Tick {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    #[expect(clippy::cast_sign_loss, reason = "the clock starts at zero and goes forward")]
    let nanoseconds = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    Tick::from_nanoseconds(nanoseconds)
}
