// SPDX-License-Identifier: Apache-2.0
//! The rules that kube-proxy 1.36 writes for Services of type ClusterIP, for any number of them, to
//! measure beside it, and to move from it, without a cluster. What it writes for other Services is not here.
//!
//! The shape is that of a real one's rules, recorded: see [`golden`].

mod chains;
#[cfg(test)]
mod golden;
mod iptables;
mod load;
mod many;
mod nftables;
mod service;

use std::{
    fmt,
    io::{Result, Write},
};

use clap::ValueEnum;

pub use load::{Loaded, TOOLS, check_translated, translated};
pub use many::many;
pub use service::{Endpoint, Node, ServicePort};

/// How kube-proxy has packets translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// By a table of nftables.
    Nftables,
    /// By tables of iptables.
    Iptables,
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Nftables, Self::Iptables];
}

/// Its name in kube-proxy's configuration.
impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        })
    }
}

/// All rules of one family on a node.
#[derive(Clone, Debug)]
pub struct Rules<S> {
    /// How they translate.
    pub mode: Mode,
    /// The node that they are for; its address says which family.
    pub node: Node,
    /// The Service ports of that family. They are gone through several times, and not kept.
    pub ports: S,
}

impl<S: Iterator<Item = ServicePort> + Clone> Rules<S> {
    /// Writes them as text: for `nft --file -`, or for `iptables-restore`, of the family.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> Result<()> {
        match self.mode {
            Mode::Nftables => nftables::write(&self.node, &self.ports, out),
            Mode::Iptables => iptables::write(&self.node, &self.ports, out),
        }
    }
}
