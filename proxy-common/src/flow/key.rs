// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The keys of flow entries.

use super::Tuple;
use crate::{Address as _, Family, Protocol, pod};

/// The hook at which an entry translates packets.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hook(u8);

impl Hook {
    /// The ingress of the client's device: forward entries, and both of a hairpin. And of the
    /// device to which masqueraded flows are answered: their reply entries.
    pub const INGRESS: Self = Self(0);
    /// The egress of the client's device: reply entries. And of the device by which masqueraded
    /// flows leave: their forward entries.
    pub const EGRESS: Self = Self(1);
    /// No hook: a mark of a program's while it puts another entry in the place of one with this tuple.
    pub const BEING_REPLACED: Self = Self(2);
}

/// The factors of [`FlowKey::tag`]: the first digits of pi.
const FACTORS: [u64; 10] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
    0xbe54_66cf_34e9_0c6c,
    0xc0ac_29b7_c97c_50dd,
    0x3f84_d5b5_b547_0917,
    0x9216_d5d9_8979_fb1b,
    0xd131_0ba6_98df_b5ac,
];

/// The key of a flow entry. It names no interface: a reply may come by any.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey<F: Family> {
    /// Addresses and ports as the packet arrives with them.
    pub tuple: Tuple<F>,
    /// The protocol.
    pub protocol: Protocol,
    /// Where the packet arrives.
    pub hook: Hook,
    /// Always zero.
    reserved: [u16; RESERVED],
}

/// How many reserved words a key has.
const RESERVED: usize = if cfg!(feature = "other-abi") { 3 } else { 1 };

impl<F: Family> FlowKey<F> {
    /// The key of packets with this tuple at this hook.
    #[must_use]
    #[inline(always)]
    pub const fn new(tuple: Tuple<F>, protocol: Protocol, hook: Hook) -> Self {
        Self { tuple, protocol, hook, reserved: [0; RESERVED] }
    }

    /// A hash of the key, kept in the entry: whoever has found an entry can tell by it that the
    /// entry is still this key's and has not been deleted and recycled since. A multilinear one
    /// (Lemire and Kaser, "Strongly universal string hashing is fast", 2014): none of its products
    /// waits for another.
    #[must_use]
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        let ports = u32::from(self.tuple.source_port.to_wire()) << 16
            | u32::from(self.tuple.destination_port.to_wire());
        let rest = u32::from(self.protocol.number()) << 8 | u32::from(self.hook.0);
        let addresses = self.tuple.source.words().iter().chain(self.tuple.destination.words());
        let mut sum = u64::from(rest).wrapping_mul(FACTORS[0]);
        sum = sum.wrapping_add(u64::from(ports).wrapping_mul(FACTORS[1]));
        for (word, factor) in addresses.zip(&FACTORS[2..]) {
            sum = sum.wrapping_add(u64::from(*word).wrapping_mul(*factor));
        }
        (sum >> 32) as u32
    }
}

pod!(Hook);
pod!(generic FlowKey);

const _: () = assert!(size_of::<FlowKey<crate::V4>>() == 14 + 2 * RESERVED);
const _: () = assert!(size_of::<FlowKey<crate::V6>>() == 38 + 2 * RESERVED);
