// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the maps are called, in the object file and under the pin root.
//!
//! The kernel keeps fifteen bytes of a map's name. Maps of a family end in `_V4` and `_V6`.

/// Frontends of a family, without the family's ending.
pub const FRONTENDS: &str = "FRONTENDS";
/// Which addresses may be frontends', per family.
pub const FILTER: &str = "FILTER";
/// Service ports of a family.
pub const SERVICES: &str = "SERVICES";
/// Names of the service ports of a family.
pub const NAMES: &str = "NAMES";
/// What of Services is not in the tables, per family.
pub const SHORTFALLS: &str = "SHORTFALLS";
/// Slots of a family.
pub const SLOTS: &str = "SLOTS";
/// Backends of a family.
pub const BACKENDS: &str = "BACKENDS";
/// Flows of a family.
pub const FLOWS: &str = "FLOWS";
/// Flows of a family that make room for others.
pub const WAITING: &str = "WAITING";
/// The host's address towards the pods behind a device, per family.
pub const HOST_ADDRESSES: &str = "HOST_ADDRS";
/// The addresses of the own Node, per family.
pub const NODE_ADDRESSES: &str = "NODE_ADDRS";
/// Devices with programs.
pub const DEVICES: &str = "DEVICES";
/// Devices of the host's stack, by the wires of their frames.
pub const WIRES: &str = "WIRES";
/// The largest packets that routes take, per family.
pub const ROUTE_MTUS: &str = "MTUS";
/// Prefixes of Service CIDRs, per family.
pub const SERVICE_CIDRS: &str = "CIDRS";
/// The ranges whose clients are served at load balancers' addresses, per family.
pub const SOURCE_RANGES: &str = "RANGES";
/// Which backend a client was served by, per family.
pub const AFFINITY: &str = "AFFINITY";
/// Which clients count as the node's own pods, per family.
pub const LOCALITY: &str = "LOCALITY";
/// Whether another proxy's NAT may own connections to frontends, per family.
pub const FOREIGN_NAT: &str = "FOREIGN_NAT";
/// What connected sockets were given; the sockets' own storage.
pub const CONNECTED: &str = "CONNECTED";
/// What sockets that send single datagrams were given; the sockets' own storage.
pub const SENT: &str = "SENT";
/// Network namespaces that are not served at sockets.
pub const LEFT_OUT: &str = "LEFT_OUT";
/// How often frontends and Service CIDRs have become more, per family.
pub const EPOCH: &str = "EPOCH";
/// How often the node's ways have changed.
pub const WAYS: &str = "WAYS";
/// Next hops to whom drivers may send.
pub const HOPS: &str = "HOPS";
/// Where the fields of keys and values lie: see [`layout`](crate::layout).
pub const LAYOUTS: &str = "LAYOUTS";
/// What goes to Service ports and comes from them, per family.
pub const TRAFFIC: &str = "TRAFFIC";
/// Who listens to what happens.
pub const LISTENERS: &str = "LISTENERS";
/// What happens, for each listener.
pub const EVENTS: [&str; crate::event::LISTENERS] =
    ["EVENTS_0", "EVENTS_1", "EVENTS_2", "EVENTS_3"];
/// Counters of both families.
pub const COUNTERS: &str = "COUNTERS";

/// The ending of the maps of a family.
#[must_use]
pub const fn family_ending<F: crate::Family>() -> &'static str {
    if F::INDEX == 0 { "_V4" } else { "_V6" }
}
