// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Searching what became of the addresses that an unconnected socket sends to.
//!
//! What a search has found lies in memory, read anew each time: so the verifier, for which it can be
//! any, does not follow the rest of a program once for each place that it might be.

use core::ptr;

use proxy_common::socket::{MAX_SENT, Sent, Translation};

/// Finds the place that fits best; says whether any does more than nothing.
#[inline(always)]
pub(super) fn find(sent: &mut Sent, fitness: impl Fn(&Translation) -> u32) -> bool {
    let best = &raw mut sent.fitness;
    // SAFETY: a field of a valid reference.
    unsafe {
        best.write_volatile(0);
        for at in 0..MAX_SENT {
            let fitness = fitness(&sent.translations[at]);
            if fitness > best.read_volatile() {
                best.write_volatile(fitness);
                sent.place = at as u32;
            }
        }
        best.read_volatile() > 0
    }
}

/// The place that was found last.
#[inline(always)]
pub(super) fn found(sent: &mut Sent) -> &mut Translation {
    // SAFETY: a field of a valid reference.
    let place = unsafe { ptr::read_volatile(&raw const sent.place) };
    &mut sent.translations[place as usize & (MAX_SENT - 1)]
}
