// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the benchmark of single packets measures the programs with, and against.
//!
//! `BPF_PROG_TEST_RUN` does not restore the frame between two runs. So a driver writes it anew each
//! time, from another client, and goes on into the program under test. The same driver with a program
//! that does nothing says what of the time is the driver's.
//!
//! A *floor* is the least that a program can do for the same result with the same kinds of tables.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    missing_docs,
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "what the classifier macro asks for and generates"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "lengths of frames, and halves of words that are meant"
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "keys and values are as large as the stack allows; by value they would be copied"
)]

mod drive;
mod floor;
mod floor_in_driver;
mod frame;
#[path = "../src/load.rs"]
mod load;
mod tables;

use aya_ebpf::{
    bindings::{
        TC_ACT_UNSPEC,
        xdp_action::{XDP_DROP, XDP_TX},
    },
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use proxy_common::{V4, V6};

/// Writes the next frame, and goes on into the program under test.
#[classifier]
pub fn drive_v4(context: TcContext) -> i32 {
    drive::run::<V4>(&context)
}

/// Writes the next frame, and goes on into the program under test.
#[classifier]
pub fn drive_v6(context: TcContext) -> i32 {
    drive::run::<V6>(&context)
}

/// A program that does nothing.
#[classifier]
pub fn nothing(_context: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// Writes the next frame, and goes on into the program under test, in its driver.
#[xdp(frags)]
pub fn drive_xdp_v4(context: XdpContext) -> u32 {
    drive::run_in_driver::<V4>(&context)
}

/// Writes the next frame, and goes on into the program under test, in its driver.
#[xdp(frags)]
pub fn drive_xdp_v6(context: XdpContext) -> u32 {
    drive::run_in_driver::<V6>(&context)
}

/// A program of drivers that does nothing.
#[xdp(frags)]
pub fn nothing_xdp(_context: XdpContext) -> u32 {
    XDP_TX
}

/// The least that sends a frame back: its MAC addresses change places.
#[xdp(frags)]
pub fn swap_xdp(context: XdpContext) -> u32 {
    floor_in_driver::swap(&context).unwrap_or(drive::FAILED as u32)
}

/// Takes what the other end of a veth sends, and no further.
#[xdp]
pub fn drop_xdp(_context: XdpContext) -> u32 {
    XDP_DROP
}

macro_rules! floors_in_driver {
    ($($v4:ident, $v6:ident: $floor:ident;)+) => { $(
        #[xdp(frags)]
        pub fn $v4(context: XdpContext) -> u32 {
            floor_in_driver::$floor::<V4>(&context).unwrap_or(drive::FAILED as u32)
        }

        #[xdp(frags)]
        pub fn $v6(context: XdpContext) -> u32 {
            floor_in_driver::$floor::<V6>(&context).unwrap_or(drive::FAILED as u32)
        }
    )+ };
}

floors_in_driver! {
    follow_xdp_v4, follow_xdp_v6: follow;
    stamp_xdp_v4, stamp_xdp_v6: follow_and_stamp;
    open_xdp_v4, open_xdp_v6: open;
}

macro_rules! floors {
    ($($v4:ident, $v6:ident: $floor:ident;)+) => { $(
        #[classifier]
        pub fn $v4(context: TcContext) -> i32 {
            verdict(floor::$floor::<V4>(&context))
        }

        #[classifier]
        pub fn $v6(context: TcContext) -> i32 {
            verdict(floor::$floor::<V6>(&context))
        }
    )+ };
}

floors! {
    follow_v4, follow_v6: follow;
    plain_v4, plain_v6: follow_plainly;
    open_v4, open_v6: open;
    alone_v4, alone_v6: open_alone;
    miss_v4, miss_v6: miss;
    refuse_v4, refuse_v6: refuse;
}

/// A floor's return code. One that did not find what it measures is told by it.
#[inline(always)]
fn verdict(floor: Option<i32>) -> i32 {
    floor.unwrap_or(drive::FAILED)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// The verifier rejects a program in which this can be reached.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
