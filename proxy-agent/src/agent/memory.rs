// SPDX-License-Identifier: Apache-2.0
//! Memory that the agent does not need any more.

use std::time::Instant;

use tracing::debug;

/// Gives memory back that nothing has any more: reading many objects at once has taken more than they
/// have, and the C library keeps it.
pub(super) fn give_back() {
    let started = Instant::now();
    // SAFETY: it may be called at any time, on any thread.
    #[cfg(target_env = "gnu")]
    let _: i32 = unsafe { nix::libc::malloc_trim(0) };
    debug!(took = ?started.elapsed(), "memory that nothing needs is given back");
}
