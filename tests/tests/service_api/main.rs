// SPDX-License-Identifier: Apache-2.0

//! The whole Service API through running agents: each way to a Service, from each kind of client,
//! under each policy.

mod affinity;
mod beside;
mod counters;
mod drivers;
mod exhaustion;
mod full_tables;
mod health_checks;
mod host_network;
mod local_clients;
mod matrix;
mod modules;
mod monitored;
mod node_address;
mod node_ports;
mod own_backends;
mod rig;
mod scale;
mod sctp;
mod source_ports;
mod source_ranges;
mod udp_flows;
mod uplinks;
