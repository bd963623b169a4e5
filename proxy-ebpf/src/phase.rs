// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Phases that the verifier goes through once, whoever calls them.
//!
//! It follows a function from each place and with each state that it is called with, except for global
//! functions, which it verifies by themselves (Linux commit 51c39bb1d5d1): these take the frame alone,
//! and find all else in the working memory.

use core::{hint, ptr};

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use proxy_common::{V4, V6};

use crate::{
    claim::{self, Entered},
    confirm,
    family::Datapath,
    open::{self, Opening},
    rewrite::rewrite,
    work::Work,
};

/// The phases of a family.
pub(crate) trait Phases: Sized {
    /// See [`open::open`].
    fn open(context: &TcContext, work: &mut Work<Self>) -> Opening
    where
        Self: Datapath;
    /// Gives the packet the addresses and ports of [`Work::flow`]; see [`rewrite`].
    fn rewrite(context: &TcContext, work: &mut Work<Self>) -> bool
    where
        Self: Datapath;
    /// See [`claim::enter_with_free_port`].
    fn enter(context: &TcContext, work: &mut Work<Self>) -> Entered
    where
        Self: Datapath;
    /// The same, for a frame in its driver.
    fn enter_in_driver(work: &mut Work<Self>) -> Entered
    where
        Self: Datapath;
    /// See [`confirm::confirm`]; the flow is found again.
    fn confirm(context: &TcContext, work: &mut Work<Self>)
    where
        Self: Datapath;
}

macro_rules! phases {
    ($($family:ty: $open:ident, $rewrite:ident, $confirm:ident, $enter:ident, $xdp_enter:ident;)+) => { $(
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $open(frame: *mut __sk_buff) -> u32 {
            with_work::<$family>(frame, |context, work| open::open(context, work) as u32)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $rewrite(frame: *mut __sk_buff) -> u32 {
            with_work::<$family>(frame, |context, work| {
                u32::from(rewrite(context, &work.packet, &work.flow.to))
            })
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $confirm(frame: *mut __sk_buff) -> u32 {
            with_work::<$family>(frame, |_, work| {
                confirm::confirm(work);
                0
            })
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $enter(frame: *mut __sk_buff) -> u32 {
            with_work::<$family>(frame, |_, work| claim::enter_with_free_port(work) as u32)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $xdp_enter() -> u32 {
            Work::<$family>::get().map_or(0, |work| claim::enter_with_free_port(work) as u32)
        }

        impl Phases for $family {
            #[inline(always)]
            fn enter_in_driver(work: &mut Work<Self>) -> Entered {
                let _: *mut Work<Self> = hint::black_box(ptr::from_mut(work));
                Entered::of($xdp_enter())
            }

            #[inline(always)]
            fn enter(context: &TcContext, work: &mut Work<Self>) -> Entered {
                Entered::of($enter(leave_to_phase(context, work)))
            }

            #[inline(always)]
            fn rewrite(context: &TcContext, work: &mut Work<Self>) -> bool {
                $rewrite(leave_to_phase(context, work)) != 0
            }

            #[inline(always)]
            fn confirm(context: &TcContext, work: &mut Work<Self>) {
                let _: u32 = $confirm(leave_to_phase(context, work));
            }

            #[inline(always)]
            fn open(context: &TcContext, work: &mut Work<Self>) -> Opening {
                Opening::of($open(leave_to_phase(context, work)))
            }
        }
    )+ };
}

phases! {
    V4: sixfour_open_v4, sixfour_write_v4, sixfour_conf_v4, sixfour_ent_v4, sixfour_xent_v4;
    V6: sixfour_open_v6, sixfour_write_v6, sixfour_conf_v6, sixfour_ent_v6, sixfour_xent_v6;
}

/// Gives the working memory to a phase, which finds it by itself, and says what the phase is called
/// with. The compiler must not think that the phase cannot know the memory: it would leave in registers
/// what the phase reads.
#[inline(always)]
fn leave_to_phase<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> *mut __sk_buff {
    let _: *mut Work<F> = hint::black_box(ptr::from_mut(work));
    context.skb.skb
}

#[inline(always)]
fn with_work<F: Datapath>(
    frame: *mut __sk_buff,
    phase: impl FnOnce(&TcContext, &mut Work<F>) -> u32,
) -> u32 {
    // Callers leave out an argument that nobody reads, and the verifier wants it.
    let frame = hint::black_box(frame);
    match Work::<F>::get() {
        Some(work) => phase(&TcContext::new(frame), work),
        None => 0,
    }
}
