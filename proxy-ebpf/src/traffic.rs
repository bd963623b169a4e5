// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Counting what goes to Service ports and comes from them, per processor.

use proxy_common::{event::Happening, flow::Kind, frontend::ServiceIndex, traffic::Traffic};

use crate::{atomic, family::Datapath};

/// The row of a Service port, if it is counted. What is no Service port's has a row that nobody reads.
#[inline(always)]
fn row<F: Datapath>(service: ServiceIndex) -> Option<*mut Traffic> {
    F::tables().traffic.get_ptr_mut(service.0)
}

/// Counts a packet that was translated by an entry of this kind. Of two translations of one, where clients are
/// masqueraded, that at the client's device counts.
#[inline(always)]
pub(crate) fn translated<F: Datapath>(service: ServiceIndex, kind: Kind, length: u32) {
    if kind.has(Kind::MASQUERADED) {
        return;
    }
    if let Some(row) = row::<F>(service) {
        let direction = if kind.has(Kind::REPLY) { Traffic::REPLIES } else { Traffic::REQUESTS };
        // SAFETY: a row of a per-processor array is this processor's alone while a program runs.
        unsafe {
            let volume = &raw mut (*row).volumes[direction];
            (*volume).packets += 1;
            (*volume).bytes += u64::from(length);
        }
    }
}

/// Counts a flow that was created.
#[inline(always)]
pub(crate) fn created<F: Datapath>(service: ServiceIndex) {
    if let Some(row) = row::<F>(service) {
        // SAFETY: as above.
        unsafe { (*row).flows += 1 };
    }
}

/// Counts a packet that was dropped or refused.
#[inline(always)]
pub(crate) fn ended<F: Datapath>(service: ServiceIndex, how: Happening) {
    if let Some(row) = row::<F>(service) {
        // SAFETY: as above.
        unsafe { *end(row, how) += 1 };
    }
}

/// Counts a call that was refused in a process, where a program may be interrupted by another.
#[inline(always)]
pub(crate) fn failed_in_process<F: Datapath>(service: ServiceIndex, how: Happening) {
    if let Some(row) = row::<F>(service) {
        // SAFETY: a row of a per-processor array is never freed, and aligned.
        let _: u64 = unsafe { atomic::add(end(row, how), 1) };
    }
}

/// Counts a socket that was given a backend, in a process.
#[inline(always)]
pub(crate) fn given_in_process<F: Datapath>(service: ServiceIndex) {
    if let Some(row) = row::<F>(service) {
        // SAFETY: as above.
        let _: u64 = unsafe { atomic::add(&raw mut (*row).sockets, 1) };
    }
}

/// Where it is counted how packets end.
#[inline(always)]
fn end(row: *mut Traffic, how: Happening) -> *mut u64 {
    // SAFETY: of a row, see above.
    unsafe {
        if how == Happening::Reject { &raw mut (*row).rejected } else { &raw mut (*row).dropped }
    }
}
