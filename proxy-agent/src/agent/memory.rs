// SPDX-License-Identifier: Apache-2.0
//! Memory that the agent does not need any more.

/// Gives memory back that nothing has any more: reading all objects at once has taken more than they
/// have, and the C library keeps it.
pub(super) fn give_back() {
    // SAFETY: it may be called at any time, on any thread.
    #[cfg(target_env = "gnu")]
    let _: i32 = unsafe { nix::libc::malloc_trim(0) };
}
