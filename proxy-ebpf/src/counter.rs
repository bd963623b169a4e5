// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Counting, per processor.

use proxy_common::{Family, counter::Reason};

use crate::{atomic, maps::COUNTERS};

/// Counts a reason of a family where a program may be interrupted by another: in a process.
#[inline(always)]
pub(crate) fn count_in_process<F: Family>(reason: Reason) {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason.row::<F>()) {
        // SAFETY: a row of a per-processor array is never freed, and aligned.
        let _: u64 = unsafe { atomic::add(counter, 1) };
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
