// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Reading and writing a packet in whole words, wherever they lie. The kernel lets programs do that on all architectures
//! which it compiles them for without a loss (`CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS`). The compiler puts a
//! value that may not be aligned together byte by byte: two or three instructions for each.

use core::{mem::MaybeUninit, ptr};

/// Reads a value, which may lie at any address.
///
/// # Safety
///
/// All of it must be in a packet, and be valid for any bytes.
#[inline(always)]
pub(crate) unsafe fn load<T: Copy>(from: usize) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    let to: *mut u8 = value.as_mut_ptr().cast();
    let mut at = 0;
    // SAFETY: the caller's; and each word is within the value.
    unsafe {
        while at + 8 <= size_of::<T>() {
            to.add(at).cast::<u64>().write_unaligned(word::eight(from + at));
            at += 8;
        }
        if at + 4 <= size_of::<T>() {
            to.add(at).cast::<u32>().write_unaligned(word::four(from + at));
            at += 4;
        }
        if at + 2 <= size_of::<T>() {
            to.add(at).cast::<u16>().write_unaligned(word::two(from + at));
            at += 2;
        }
        if at < size_of::<T>() {
            to.add(at).write((from as *const u8).add(at).read());
        }
        value.assume_init()
    }
}

/// Writes a value to any address.
///
/// # Safety
///
/// All of it must be in a packet that may be written.
#[inline(always)]
pub(crate) unsafe fn store<T: Copy>(to: usize, value: &T) {
    let from: *const u8 = ptr::from_ref(value).cast();
    let mut at = 0;
    // SAFETY: the caller's; and each word is within the value.
    unsafe {
        while at + 8 <= size_of::<T>() {
            word::put_eight(to + at, from.add(at).cast::<u64>().read_unaligned());
            at += 8;
        }
        if at + 4 <= size_of::<T>() {
            word::put_four(to + at, from.add(at).cast::<u32>().read_unaligned());
            at += 4;
        }
        if at + 2 <= size_of::<T>() {
            word::put_two(to + at, from.add(at).cast::<u16>().read_unaligned());
            at += 2;
        }
        if at < size_of::<T>() {
            (to as *mut u8).add(at).write(from.add(at).read());
        }
    }
}

#[cfg(target_arch = "bpf")]
mod word {
    use core::arch::asm;

    macro_rules! load {
        ($name:ident, $word:ty, $instruction:literal) => {
            /// Reads a word, as the machine orders its bytes.
            #[inline(always)]
            pub(super) unsafe fn $name(from: usize) -> $word {
                let word: u64;
                // SAFETY: the caller's.
                unsafe {
                    asm!(
                        $instruction,
                        word = lateout(reg) word, from = in(reg) from,
                        options(pure, readonly, nostack, preserves_flags),
                    );
                }
                word as $word
            }
        };
    }

    macro_rules! store {
        ($name:ident, $word:ty, $instruction:literal) => {
            /// Writes a word, as the machine orders its bytes.
            #[inline(always)]
            pub(super) unsafe fn $name(to: usize, word: $word) {
                // SAFETY: the caller's.
                unsafe {
                    asm!(
                        $instruction,
                        word = in(reg) u64::from(word), to = in(reg) to,
                        options(nostack, preserves_flags),
                    );
                }
            }
        };
    }

    store!(put_eight, u64, "*(u64 *)({to} + 0) = {word}");
    store!(put_four, u32, "*(u32 *)({to} + 0) = {word}");
    store!(put_two, u16, "*(u16 *)({to} + 0) = {word}");
    load!(eight, u64, "{word} = *(u64 *)({from} + 0)");
    load!(four, u32, "{word} = *(u32 *)({from} + 0)");
    load!(two, u16, "{word} = *(u16 *)({from} + 0)");
}

// For lints alone, as in `atomic`.
#[cfg(not(target_arch = "bpf"))]
mod word {
    use core::ptr::{read_unaligned, write_unaligned};

    macro_rules! store {
        ($name:ident, $word:ty) => {
            pub(super) unsafe fn $name(to: usize, word: $word) {
                // SAFETY: the caller's.
                unsafe { write_unaligned(to as *mut $word, word) }
            }
        };
    }

    store!(put_eight, u64);
    store!(put_four, u32);
    store!(put_two, u16);

    macro_rules! load {
        ($name:ident, $word:ty) => {
            pub(super) unsafe fn $name(from: usize) -> $word {
                // SAFETY: the caller's.
                unsafe { read_unaligned(from as *const $word) }
            }
        };
    }

    load!(eight, u64);
    load!(four, u32);
    load!(two, u16);
}
