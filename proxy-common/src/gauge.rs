// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the benchmark of single packets asks the driver of the programs under test for. Not a part
//! of the proxy.

use crate::pod;

/// The length of the longest frame that is sent through a program, in bytes.
pub const MAX_FRAME: usize = 80;

/// The frames of a run: one after the other the same but for its client, and for the frontend that this asks.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// How many frames have been written.
    pub written: u64,
    /// The frame, without the client's port and the last four bytes of its address. Of TCP, without
    /// options.
    pub frame: [u8; MAX_FRAME],
    /// The number of the next frame's client.
    pub next: u32,
    /// The number of clients, after which the first one comes again.
    pub clients: u32,
    /// The last four bytes of the first client's address, as a number.
    pub address: u32,
    /// Whether the frames are for the client (not zero), and not from it.
    pub is_reply: u32,
    /// The number of frontends that clients ask, each the next one, and one that is far from it; if zero, they ask
    /// the one that is in the frame.
    pub frontends: u32,
    /// The last four bytes of the first frontend's address, as a number.
    pub frontend: u32,
}

/// The ports of the clients of one address, as a power of two.
const PORT_BITS: u32 = 14;
/// Their first.
const FIRST_PORT: u32 = 0x4000;

/// What takes numbers that follow each other far apart: 2^32, divided by the golden ratio.
const SPREAD: u32 = 0x9e37_79b9;

impl Recipe {
    /// One of an empty frame, with one client.
    #[must_use]
    pub const fn new(address: u32) -> Self {
        Self {
            written: 0,
            frame: [0; MAX_FRAME],
            next: 0,
            clients: 1,
            address,
            is_reply: 0,
            frontends: 0,
            frontend: 0,
        }
    }

    /// Which frontend a client asks.
    #[must_use]
    #[inline(always)]
    pub const fn asked(&self, client: u32) -> u32 {
        ((client.wrapping_mul(SPREAD) as u64 * self.frontends as u64) >> 32) as u32
    }

    /// The last four bytes of a client's address and its port, as numbers.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a port has 16 bits")]
    pub const fn client(&self, number: u32) -> (u32, u16) {
        let port = FIRST_PORT | (number & ((1 << PORT_BITS) - 1));
        (self.address.wrapping_add(number >> PORT_BITS), port as u16)
    }
}

pod!(Recipe);

const _: () = assert!(size_of::<Recipe>() == MAX_FRAME + 32);
