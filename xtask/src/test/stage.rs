// SPDX-License-Identifier: Apache-2.0
//! The stages of a test run.

use std::fmt;

use clap::ValueEnum;

/// A part of the tests, in the order in which they run: what is quick and close comes first.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Stage {
    /// Unit and golden tests: objects in, tables out
    Unit,
    /// The BPF programs under `BPF_PROG_TEST_RUN`
    Packet,
    /// Real traffic between network namespaces
    Network,
    /// Both of these under other kernels, in qemu
    Kernels,
}

impl Stage {
    pub(super) const ALL: [Self; 4] = [Self::Unit, Self::Packet, Self::Network, Self::Kernels];

    /// Whether the stage touches a kernel or unpacks packages.
    pub(super) fn needs_root(self) -> bool {
        self != Self::Unit
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value().expect("no stage is hidden");
        formatter.write_str(name.get_name())
    }
}
