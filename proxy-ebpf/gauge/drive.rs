// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The driver: writes a frame, and goes on into the program under test.

use core::ptr;

use aya_ebpf::{
    helpers::generated::bpf_skb_change_tail,
    programs::{TcContext, XdpContext},
};

use crate::{
    frame::{Bytes, Layout},
    tables::{DRIVERS_PROGRAM, PROGRAM, RECIPE},
};

/// The return code that says that the program under test was not reached, or did not find what it
/// measures.
pub(crate) const FAILED: i32 = 100;

/// Writes the next frame and goes on.
#[inline(always)]
pub(crate) fn run<F: Layout>(context: &TcContext) -> i32 {
    if write::<F>(context).is_some() {
        // SAFETY: the program takes the same context. This comes back only if there is none.
        unsafe { PROGRAM.tail_call(context, 0) };
    }
    FAILED
}

/// The same for a frame in its driver.
#[inline(always)]
pub(crate) fn run_in_driver<F: Layout>(context: &XdpContext) -> u32 {
    if write_frame::<F>(context).is_some() {
        // SAFETY: as above.
        unsafe { DRIVERS_PROGRAM.tail_call(context, 0) };
    }
    FAILED as u32
}

#[inline(always)]
fn write<F: Layout>(context: &TcContext) -> Option<()> {
    if context.len() as usize != F::LENGTH {
        // What the program under test has answered is of another length.
        // SAFETY: the context is the kernel's.
        let changed = unsafe { bpf_skb_change_tail(context.skb.skb, F::LENGTH as u32, 0) };
        if changed != 0 {
            return None;
        }
    }
    write_frame::<F>(context)
}

#[inline(always)]
fn write_frame<F: Layout>(context: &impl Bytes) -> Option<()> {
    let recipe = RECIPE.get_ptr_mut(0)?;
    // SAFETY: a row of an array is never freed; one thread runs this.
    let recipe = unsafe { &mut *recipe };
    let client = recipe.next;
    recipe.next = if client + 1 >= recipe.clients { 0 } else { client + 1 };
    let (address, port) = recipe.client(client);
    let (start, end) = context.range();
    if start + F::LENGTH > end {
        return None;
    }
    let (address_at, port_at) = if recipe.is_reply == 0 {
        (F::ADDRESSES + F::ADDRESS - 4, F::TRANSPORT)
    } else {
        (F::ADDRESSES + 2 * F::ADDRESS - 4, F::TRANSPORT + 2)
    };
    let mut offset = 0;
    // SAFETY: all within the packet, as just checked, and within the frame of the recipe, which is
    // longer.
    unsafe {
        while offset + 8 <= F::LENGTH {
            let word: u64 = ptr::read_unaligned(recipe.frame.as_ptr().add(offset).cast());
            ptr::write_unaligned((start + offset) as *mut u64, word);
            offset += 8;
        }
        while offset + 2 <= F::LENGTH {
            let word: u16 = ptr::read_unaligned(recipe.frame.as_ptr().add(offset).cast());
            ptr::write_unaligned((start + offset) as *mut u16, word);
            offset += 2;
        }
        ptr::write_unaligned((start + address_at) as *mut u32, address.to_be());
        ptr::write_unaligned((start + port_at) as *mut u16, port.to_be());
        if recipe.frontends > 0 {
            let frontend = recipe.frontend.wrapping_add(recipe.asked(client));
            let at = start + F::ADDRESSES + 2 * F::ADDRESS - 4;
            ptr::write_unaligned(at as *mut u32, frontend.to_be());
        }
    }
    settle(&mut recipe.written);
    Some(())
}

/// Counts a frame by an atomic operation, which waits until all that was stored before can be read at once. The
/// bytes of a packet that comes from a device or a process can; of these here, each word that the program under
/// test reads would wait.
#[inline(always)]
#[cfg(target_arch = "bpf")]
fn settle(written: &mut u64) {
    // SAFETY: the word is aligned, as its type is.
    unsafe {
        core::arch::asm!(
            "{one} = atomic_fetch_add((u64 *)({written} + 0), {one})",
            written = in(reg) written, one = inout(reg) 1_u64 => _,
            options(nostack, preserves_flags),
        );
    }
}

// For lints alone, which are run for the machine at hand where the compiler for BPF has none.
#[cfg(not(target_arch = "bpf"))]
fn settle(written: &mut u64) {
    *written += 1;
}
