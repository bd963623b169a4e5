// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench iperf --kubeconfig`, against an API server that keeps what is made, and a stand-in
//! for the rest of a cluster: pods start, and clients' logs are those of a real iperf3, recorded.

mod cluster;
mod ends;
mod recorded;
mod refusals;
mod tables;
