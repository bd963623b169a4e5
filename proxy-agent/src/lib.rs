// SPDX-License-Identifier: Apache-2.0
//! The node agent of Sixfour.
//!
//! Objects walk through it in one direction: [`watch`] delivers them, [`model`] holds them,
//! [`plan`] says what the tables of one Service must hold, [`reconcile`] turns the difference to
//! what they do hold into ordered operations, and [`dataplane`] carries those out. Only the two
//! ends do I/O.

pub mod agent;
mod backoff;
#[cfg(test)]
mod both_families;
pub mod bpf;
pub mod chain;
pub mod check_configuration;
pub mod cleanup;
pub mod cli;
pub mod collector;
pub mod config;
pub mod conntrack;
pub mod dataplane;
pub mod devices;
pub mod drain;
pub mod events;
pub mod fast_path;
mod few;
pub mod foreign_nat;
#[cfg(test)]
mod golden;
pub mod health_check;
pub mod host_settings;
mod http_server;
pub mod list;
pub mod local_clients;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod monitor;
mod netlink;
pub mod plan;
pub mod preflight;
pub mod reconcile;
pub mod runner;
pub mod socket_lb;
pub mod sockets;
pub mod source_ports;
pub mod status;
mod table;
pub mod walks;
pub mod watch;
