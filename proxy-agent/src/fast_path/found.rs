// SPDX-License-Identifier: Apache-2.0
//! What packets would miss that go past the stack.

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

/// What becomes of packets that would not without the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// What no rule accepts is dropped.
    Policy,
    /// A rule drops.
    Drop,
    /// A rule refuses.
    Reject,
    /// A rule has a process decide.
    Queue,
    /// A rule gives the source the address of the device that the packet leaves by.
    Masquerade,
    /// A rule gives the source another address.
    Snat,
    /// A rule gives the destination another address.
    Dnat,
    /// A rule makes the host the destination.
    Redirect,
    /// A rule maps networks onto one another.
    Netmap,
    /// A rule stores an address or a port without tracking the connection.
    Set,
    /// A rule hands packets to a socket of the host.
    Tproxy,
    /// A rule answers for the server.
    Synproxy,
    /// A rule sends packets out of another device.
    Fwd,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "policy drop",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Queue => "queue",
            Self::Masquerade => "masquerade",
            Self::Snat => "snat",
            Self::Dnat => "dnat",
            Self::Redirect => "redirect",
            Self::Netmap => "netmap",
            Self::Set => "sets an address or a port",
            Self::Tproxy => "tproxy",
            Self::Synproxy => "synproxy",
            Self::Fwd => "fwd",
        })
    }
}

/// Rules that forwarded packets need to meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// A chain that forwarded packets come to.
    Chain(Chain, Action),
    /// A table of legacy iptables, whose rules are not looked at.
    LegacyTable {
        /// `ip` or `ip6`.
        family: &'static str,
        /// Its name.
        table: String,
    },
    /// Policies of IPsec, for packets of a direction.
    Ipsec {
        /// `out` or `fwd`.
        direction: &'static str,
        /// How many there are.
        policies: usize,
    },
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(chain, action) => write!(f, "{chain}: {action}"),
            Self::LegacyTable { family, table } => {
                write!(f, "table {family} {table} of legacy iptables: not looked into")
            }
            Self::Ipsec { direction, policies } => {
                write!(f, "IPsec policies {direction}: {policies}")
            }
        }
    }
}
