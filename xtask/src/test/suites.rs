// SPDX-License-Identifier: Apache-2.0
//! The suites that need privileges: integration tests of the package `proxy-tests`.

use super::stage::Stage;

/// An integration test that a stage of its own runs, here and under other kernels.
pub(super) struct Suite {
    /// The name of the test target, `tests/tests/NAME.rs`.
    pub(super) name: &'static str,
    /// What it tests, for people.
    pub(super) what: &'static str,
    pub(super) stage: Stage,
    /// Arguments on this machine.
    pub(super) arguments: &'static [&'static str],
    /// The kernels to run it under besides this machine's.
    pub(super) kernels: &'static [&'static str],
    /// Arguments under those, without spaces.
    pub(super) guest_arguments: &'static [&'static str],
    /// How long it may take there, in seconds; a guest is many times slower.
    pub(super) guest_seconds: u32,
}

/// Every suite.
pub(super) const SUITES: [Suite; 3] = [
    Suite {
        name: "packet",
        what: "packets through the BPF programs, one by one",
        stage: Stage::Packet,
        arguments: &[],
        kernels: &["6.1", "6.12"],
        guest_arguments: &[],
        guest_seconds: 300,
    },
    Suite {
        name: "harness",
        what: "the networks of the tests, without a proxy",
        stage: Stage::Network,
        arguments: &[],
        kernels: &[],
        guest_arguments: &[],
        guest_seconds: 0,
    },
    Suite {
        name: "network",
        what: "real traffic between network namespaces",
        stage: Stage::Network,
        arguments: &["--test-threads=1"],
        kernels: &["6.1", "6.12"],
        guest_arguments: &["--test-threads=1"],
        guest_seconds: 600,
    },
];
