// SPDX-License-Identifier: Apache-2.0
//! The node's network devices: found and classified by rtnetlink, live, and fitted with programs.
//!
//! - [`snapshot`]: what the kernel has said of links, addresses and routes, as plain values;
//! - [`classify`]: which device plays which role, a pure function of a snapshot;
//! - [`served`]: the devices that have programs, and what those must know, pure as well;
//! - [`forwarders`]: by which devices the host is to forward packets, pure as well;
//! - [`watcher`]: keeps a snapshot true and tells what changes;
//! - [`xdp`]: which uplinks have a program in their driver;
//! - `ways`: tells that routes, addresses or neighbours have changed;
//! - `abilities`: what drivers can do for programs;
//! - `reachable`: neighbours to whom drivers may send;
//! - [`attach`]: puts the programs on a device and takes them off.

mod abilities;
pub mod attach;
pub mod classify;
pub mod forwarders;
mod netlink;
mod node_addresses;
mod options;
mod parse;
pub mod patterns;
mod reachable;
mod route_mtus;
pub mod served;
pub mod snapshot;
mod source;
pub mod watcher;
mod ways;
pub mod xdp;

pub use abilities::{Abilities, AbilityError};
pub use attach::{
    AttachError, AttachMode, Attached, Attacher, DriverError, Filters, InDriver, Looked, Programs,
    TakenOff, Unwanted, devices_with_clsact, links_of, take_off,
};
pub use classify::{Role, classify};
pub use forwarders::Forwarders;
pub use netlink::NetlinkError;
pub use node_addresses::NodeAddresses;
pub use options::DeviceOptions;
pub use patterns::{Included, PatternError, Patterns};
pub use reachable::{Reachable, watch_reachable};
pub use route_mtus::RouteMtu;
pub use served::{HostAddresses, ServedDevice};
pub use watcher::{DeviceEvent, DeviceWatcher};
pub use ways::watch_ways;
pub use xdp::{Driven, Xdp, XdpChoice, XdpChoiceError, XdpModes};
