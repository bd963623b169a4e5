// SPDX-License-Identifier: Apache-2.0

//! What the tests and the demo of Sixfour share.
//!
//! * [`topology`]: nodes, pods and clients as network namespaces, dual-stack
//!   from one definition, on top of [`netns`] and [`cgroup`];
//! * [`traffic`]: servers and clients inside of them;
//! * [`load`]: requests all the time, none of which may be lost, and [`flood`]: SYNs that nobody wants;
//! * [`agent`]: the agent on a node, fed with [`manifests`];
//! * [`cluster`]: all of that together, with a Service;
//! * [`kube_proxy`]: the rules of the proxy that is replaced;
//! * [`exposition`]: pages of metrics, read;
//! * [`api`]: an API server for the agent, and faults on the way to it;
//! * [`packet`]: packets for single programs, judged by a [`model`] of the NAT;
//! * [`median`]: what something takes that was done several times;
//! * [`cleanup`]: whatever is made is taken down again, on failure and on a
//!   signal too.
//!
//! Nothing here knows of a test framework, and nothing is printed except
//! what could not be cleaned up.

#![expect(
    clippy::missing_errors_doc,
    reason = "all errors are anyhow's, each names the command, path or address that failed"
)]

pub mod agent;
pub mod api;
pub mod cgroup;
pub mod cleanup;
pub mod cluster;
pub mod exposition;
pub mod family;
pub mod flood;
pub mod guest;
pub mod kube_proxy;
mod leftovers;
pub mod load;
pub mod manifests;
pub mod median;
pub mod model;
pub mod netns;
pub mod packet;
pub mod process;
pub mod protocol;
pub mod scratch;
pub mod topology;
pub mod traffic;
