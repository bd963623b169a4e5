// SPDX-License-Identifier: Apache-2.0
//! What may drop forwarded packets.

use std::fmt;

/// A chain of nftables, which those of iptables-nft are too, by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    /// The family of its table: `inet`, `ip`, `ip6`, `bridge` or `netdev`.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {} {} {}", self.family, self.table, self.name)
    }
}

/// How packets come to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// What no rule accepts is dropped.
    Policy,
    /// A rule drops.
    Drop,
    /// A rule refuses.
    Reject,
    /// A rule has a process decide.
    Queue,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "policy drop",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Queue => "queue",
        })
    }
}

/// Rules that may drop forwarded packets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// A chain that forwarded packets come to.
    Chain(Chain, End),
    /// A table of legacy iptables, whose rules are not looked at.
    LegacyTable {
        /// `ip` or `ip6`.
        family: &'static str,
        /// Its name.
        table: String,
    },
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(chain, end) => write!(f, "{chain}: {end}"),
            Self::LegacyTable { family, table } => {
                write!(f, "table {family} {table} of legacy iptables: not looked into")
            }
        }
    }
}
