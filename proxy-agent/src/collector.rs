// SPDX-License-Identifier: Apache-2.0
//! Collecting flows that have been silent too long.
//!
//! The programs check the time-out of each flow that they meet, so nothing depends on this but
//! the room in the table of confirmed flows; half-open flows make room for each other.

use proxy_common::{Family, clock::Tick};
use rustix::time::{ClockId, clock_gettime};

use crate::bpf::{Error, Tables};

/// Removes the confirmed entries of a family that have been silent too long, and says how many.
///
/// # Errors
///
/// If the table cannot be read or written.
pub fn collect<F: Family>(tables: &mut Tables<F>) -> Result<usize, Error> {
    let started = now();
    let mut silent = Vec::new();
    for entry in tables.flows(true) {
        let (key, flow) = entry?;
        if flow.is_expired(key.protocol, true, started) {
            silent.push(key);
        }
    }
    let mut removed = 0;
    for key in silent {
        // A packet may have come since.
        if let Some(flow) = tables.flow(true, &key)?
            && flow.is_expired(key.protocol, true, now())
        {
            tables.remove_flow(true, &key)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The present on the clock of the programs.
#[must_use]
pub fn now() -> Tick {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    #[expect(clippy::cast_sign_loss, reason = "the clock starts at zero and goes forward")]
    let nanoseconds = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    Tick::from_nanoseconds(nanoseconds)
}
