// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Changes of words in one instruction, which no interruption and no other processor comes between. The
//! target has them, but the types of `core::sync::atomic` have no such operations there.

#[cfg(target_arch = "bpf")]
use core::{
    arch::asm,
    intrinsics::{AtomicOrdering, atomic_and, atomic_or},
};

/// Adds to a word, and returns what it was.
///
/// # Safety
///
/// The word must be aligned, and stay.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) unsafe fn add(word: *mut u64, value: u64) -> u64 {
    let before: u64;
    // The compiler's own addition returns nothing (`lock *(u64 *)... += ...`).
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({word} + 0), {value})",
            word = in(reg) word, value = inout(reg) value => before,
            options(nostack, preserves_flags),
        );
    }
    before
}

/// Sets bits of a word, and returns what it was.
///
/// # Safety
///
/// As [`add`].
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) unsafe fn set(word: *mut u64, bits: u64) -> u64 {
    // SAFETY: the caller's.
    unsafe { atomic_or::<_, _, { AtomicOrdering::Relaxed }>(word, bits) }
}

/// Clears bits of a word, and returns what it was.
///
/// # Safety
///
/// As [`add`].
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) unsafe fn clear(word: *mut u64, bits: u64) -> u64 {
    // SAFETY: the caller's.
    unsafe { atomic_and::<_, _, { AtomicOrdering::Relaxed }>(word, !bits) }
}

// For lints alone, which are run for the machine at hand where the compiler for BPF has none.
#[cfg(not(target_arch = "bpf"))]
pub(crate) use plain::{add, clear, set};

#[cfg(not(target_arch = "bpf"))]
mod plain {
    pub(crate) unsafe fn add(word: *mut u64, value: u64) -> u64 {
        // SAFETY: the caller's.
        unsafe { word.replace(word.read().wrapping_add(value)) }
    }

    pub(crate) unsafe fn set(word: *mut u64, bits: u64) -> u64 {
        // SAFETY: the caller's.
        unsafe { word.replace(word.read() | bits) }
    }

    pub(crate) unsafe fn clear(word: *mut u64, bits: u64) -> u64 {
        // SAFETY: the caller's.
        unsafe { word.replace(word.read() & !bits) }
    }
}
