// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flows that wait for their end: each family has two queues of them, one of half-open flows and one of
//! closed ones. Where no place is free, who comes takes that of the one that has waited longest.

use super::FlowKey;
use crate::{Family, pod};

/// How many places each queue has.
pub const PLACES: u32 = 1 << 16;

/// A queue of flows that make room for others.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Half-open flows. Each flow begins there, and leaves it when it is confirmed.
    HalfOpen = 0,
    /// Flows that both sides have ended.
    Closed = 1,
}

/// How many queues there are in a family.
pub const QUEUES: u32 = 2;

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

const _: () = assert!(size_of::<Waiting<crate::V4>>() == 20);
const _: () = assert!(size_of::<Waiting<crate::V6>>() == 44);
