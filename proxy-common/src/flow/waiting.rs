// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flows that may wait for their end: each family has queues of them, of half-open flows, of closed ones, and of
//! confirmed ones that nothing ends but silence. Where no place is free among the former two, who comes takes that of
//! the one that has waited longest; among the last, only that of one that is over.

use super::FlowKey;
use crate::{Family, pod};

/// How many places there are for half-open flows, and for closed ones.
pub const PLACES: u32 = 1 << 16;

/// How many there are for flows without an end of their own.
pub const ENDLESS_PLACES: u32 = 1 << 18;

/// A queue of flows that make room for others.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Half-open flows. Each flow begins there, and leaves it when it is confirmed.
    HalfOpen = 0,
    /// Flows that both sides have ended.
    Closed = 1,
    /// Confirmed flows of datagrams and of SCTP: no last packet says that a flow of the former is over, and one of
    /// the latter may be lost. Those of TCP are not among them.
    Endless = 2,
}

/// All places of a family, one queue's after the other's, if there are so many for half-open flows, and so many for
/// flows without an end.
#[must_use]
#[inline(always)]
pub const fn all_places(places: u32, endless: u32) -> u32 {
    Queue::Endless as u32 * places + endless
}

/// A place in a queue.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting<F: Family> {
    /// The key of the flow's forward entry.
    pub key: FlowKey<F>,
    /// Whether a flow waits here (not zero).
    pub is_taken: u32,
}

pod!(generic Waiting);

const _: () = assert!(size_of::<Waiting<crate::V4>>() == size_of::<FlowKey<crate::V4>>() + 4);
const _: () = assert!(size_of::<Waiting<crate::V6>>() == size_of::<FlowKey<crate::V6>>() + 4);
