// SPDX-License-Identifier: Apache-2.0

//! Who asks whom, and how.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::topology::Host;

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A TCP connection for each request, never a second one for the same.
    Short,
    /// All requests on one TCP connection; on another only when that one has lost a request.
    Long,
    /// Datagrams of one UDP socket that is connected, and connects anew only when the kernel says
    /// that it has been ended.
    Connected,
    /// Datagrams of one UDP socket that is not connected.
    Unconnected,
    /// The same as [`Kind::Short`], to a Service with session affinity.
    Affinity,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Short, Self::Long, Self::Connected, Self::Unconnected, Self::Affinity];

    /// From the beginning of a request to that of the next: together, fifty clients leave most of a
    /// processor to others.
    pub(super) const fn pause(self) -> Duration {
        Duration::from_millis(if matches!(self, Self::Long) { 10 } else { 20 })
    }

    /// The name in tables.
    const fn name(self) -> &'static str {
        match self {
            Self::Short => "short TCP",
            Self::Long => "long TCP",
            Self::Connected => "UDP connected",
            Self::Unconnected => "UDP",
            Self::Affinity => "affinity TCP",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// Who may answer a client: the names of servers.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    stay: BTreeSet<String>,
    leave: BTreeSet<String>,
}

impl Servers {
    /// These are endpoints all the time: nobody who is with one may get to another, but by a new
    /// connection.
    pub fn staying(names: impl IntoIterator<Item: Into<String>>) -> Self {
        Self { stay: names.into_iter().map(Into::into).collect(), leave: BTreeSet::new() }
    }

    /// These are endpoints some of the time: who is with one may be moved.
    #[must_use]
    pub fn and_leaving(self, names: impl IntoIterator<Item: Into<String>>) -> Self {
        Self { leave: names.into_iter().map(Into::into).collect(), ..self }
    }

    /// Whether it may answer at all.
    pub(super) fn contain(&self, name: &str) -> bool {
        self.stay.contains(name) || self.leaves(name)
    }

    /// Whether it may be gone some of the time.
    pub(super) fn leaves(&self, name: &str) -> bool {
        self.leave.contains(name)
    }
}

/// A client to be.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    /// How it asks.
    pub kind: Kind,
    /// Where it runs.
    pub host: &'a Host,
    /// Whom it asks.
    pub target: SocketAddr,
    /// Who may answer.
    pub servers: Servers,
}
