// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Counting, per processor.

use proxy_common::{Family, counter::Reason};

use crate::maps::COUNTERS;

/// Counts a reason of a family.
#[inline(always)]
pub(crate) fn count<F: Family>(reason: Reason) {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason.row::<F>()) {
        // SAFETY: a row of a per-processor array is this processor's alone while a program runs.
        unsafe { *counter += 1 };
    }
}
