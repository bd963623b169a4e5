// SPDX-License-Identifier: Apache-2.0
//! What the BPF object is loaded with.

use std::ops::RangeInclusive;

use super::Capacity;

/// What the programs must know before they are loaded.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The ports that translated sources take.
    pub source_ports: RangeInclusive<u16>,
    /// How much the tables have room for.
    pub capacity: Capacity,
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
        let capacity = Capacity::default();
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
