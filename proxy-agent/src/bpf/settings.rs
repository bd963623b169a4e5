// SPDX-License-Identifier: Apache-2.0
//! What the BPF object is loaded with.

use std::ops::RangeInclusive;

use proxy_common::{
    V4, V6,
    flow::{MAX_FLOWS, PLACES, QUEUES},
    map_names::{self, family_ending},
};

/// What the programs must know before they are loaded.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The ports that translated sources take.
    pub source_ports: RangeInclusive<u16>,
    /// How many flows there may be.
    pub capacity: FlowCapacity,
    /// Whose sockets are served; without it, [`Object::verify`](super::Object::verify) leaves out the programs for sockets.
    pub sockets: Option<ServedNetns>,
    /// The families whose node ports processes of the host find at loopback addresses, too, as bits
    /// of [`Family::INDEX`](proxy_common::Family::INDEX).
    pub loopback_node_ports: u32,
    /// Whether flows may go past the host's stack.
    pub fast_path: bool,
}

impl Default for Settings {
    /// The ports above Linux's default ephemeral range, and no sockets.
    fn default() -> Self {
        let capacity = FlowCapacity::default();
        Self {
            source_ports: 61_000..=65_535,
            capacity,
            sockets: None,
            loopback_node_ports: 0,
            fast_path: false,
        }
    }
}

/// The network namespaces whose processes are served at their sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedNetns {
    /// The cookie of the host's namespace (`SO_NETNS_COOKIE`).
    pub host_netns: u64,
    /// Whether all others are served, too, except for those that are left out.
    pub all: bool,
}

/// How many flows each family may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowCapacity {
    /// The most entries; a flow has two.
    pub entries: u32,
    /// The most half-open flows, and the most closed ones, a power of two: those that have been there for
    /// longest make room for new ones.
    pub places: u32,
}

impl Default for FlowCapacity {
    fn default() -> Self {
        Self { entries: MAX_FLOWS, places: PLACES }
    }
}

impl FlowCapacity {
    /// The tables' names and entries.
    pub(super) fn tables(self) -> Vec<(String, u32)> {
        let rows = QUEUES * self.places;
        let tables = [(map_names::FLOWS, self.entries), (map_names::WAITING, rows)];
        [family_ending::<V4>(), family_ending::<V6>()]
            .iter()
            .flat_map(|ending| tables.map(|(base, entries)| (format!("{base}{ending}"), entries)))
            .collect()
    }
}
