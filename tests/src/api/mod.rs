// SPDX-License-Identifier: Apache-2.0

//! The Kubernetes API, as far as a proxy uses it: a server that replays recordings, real ones, and
//! a proxy in front of either that lets things go wrong.

pub mod crowd;
pub mod envtest;
pub mod fault;
pub mod forwarder;
pub mod kind;
pub mod kubeconfig;
pub mod pki;
pub mod proxy;
pub mod query;
pub mod recorded;
pub mod replay;
pub mod rules;
pub mod workloads;

mod client;
mod connection;
mod events;
mod list;
mod listener;
mod object;
mod relay;
mod selector;
mod store;
mod watch;

pub use client::{ApiClient, Upstream};
pub use connection::Connection;
