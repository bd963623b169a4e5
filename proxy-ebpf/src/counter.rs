// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Counting, per processor.

use proxy_common::{Family, counter::Reason};

use crate::maps::COUNTERS;

/// Counts a reason of a family where a program may be interrupted by another: in a process.
#[inline(always)]
pub(crate) fn count_in_process<F: Family>(reason: Reason) {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason.row::<F>()) {
        add_one(counter);
    }
}

/// Counts a reason of a family.
#[inline(always)]
pub(crate) fn count<F: Family>(reason: Reason) {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason.row::<F>()) {
        // SAFETY: a row of a per-processor array is this processor's alone while a program runs.
        unsafe { *counter += 1 };
    }
}

/// Adds one in one instruction, which no interruption comes between. The target has it, but
/// `AtomicU64` has no additions there.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn add_one(counter: *mut u64) {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};

    // SAFETY: a row of a per-processor array is never freed, and aligned.
    let _: u64 = unsafe { atomic_xadd::<_, _, { AtomicOrdering::Relaxed }>(counter, 1_u64) };
}

#[cfg(not(target_arch = "bpf"))]
fn add_one(counter: *mut u64) {
    // SAFETY: as above.
    unsafe { *counter += 1 };
}
