// SPDX-License-Identifier: Apache-2.0
//! What carries out operations on the tables.
//!
//! The reconciler decides everything: which rows, which values, in which order. A dataplane only
//! writes, one operation after the other, and says how far it came.

mod contents;
#[cfg(test)]
pub mod fake;
mod referred;
mod rows;

pub use contents::Contents;
pub use referred::Referred;
pub use rows::Rows;

use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr},
};

use proxy_common::{
    Family, Protocol,
    backend::{Backend, BackendId},
    frontend::{Frontend, FrontendKey, ServiceIndex},
    name,
    service::{BackendSet, Policy, Service},
    service_cidr::Prefix,
    shortfall::Shortfall,
};

/// One write to one of the tables of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<F: Family> {
    /// Writes a backend that no slot names yet.
    PutBackend {
        /// Its row.
        id: BackendId,
        /// What it is. The generation is one that the row has never had.
        backend: Backend<F>,
    },
    /// Stores the standing of a backend in place, whole.
    SetStanding {
        /// Its row.
        id: BackendId,
        /// What the row holds from now on: what it held, with another standing. A dataplane writes
        /// the standing alone.
        backend: Backend<F>,
    },
    /// Writes a range of slots that no set holds.
    PutSlots {
        /// The first of them.
        start: u32,
        /// What they name.
        ids: Vec<BackendId>,
    },
    /// Stores one word of a Service port's row, whole: from here on new flows choose from it.
    PutSet {
        /// The row.
        index: ServiceIndex,
        /// The word.
        which: SetKind,
        /// Its value.
        set: BackendSet,
    },
    /// Stores the policy word of a Service port's row, whole.
    PutPolicy {
        /// The row.
        index: ServiceIndex,
        /// The word's value.
        policy: Policy,
    },
    /// Admits the clients of a range at a Service port's load balancer, where its policy restricts
    /// these.
    PutSourceRange {
        /// The row.
        index: ServiceIndex,
        /// The range, with zeros behind its prefix.
        range: Prefix<F>,
    },
    /// Admits them no more.
    RemoveSourceRange {
        /// The row.
        index: ServiceIndex,
        /// The range.
        range: Prefix<F>,
    },
    /// Writes what a Service port is called. Nothing acts on it, people read it.
    PutName {
        /// The row.
        index: ServiceIndex,
        /// The name.
        name: Box<name::ServiceName>,
    },
    /// Adds a frontend; there is none with this key.
    PutFrontend {
        /// What clients dial.
        key: FrontendKey<F>,
        /// The row behind it with the kind of the frontend, or a mark.
        frontend: Frontend,
    },
    /// Removes a frontend.
    RemoveFrontend {
        /// What clients dialled.
        key: FrontendKey<F>,
    },
    /// Keeps what is addressed to a prefix of a Service CIDR from leaving the node.
    PutServiceCidr {
        /// The prefix.
        prefix: Prefix<F>,
    },
    /// Lets it leave again.
    RemoveServiceCidr {
        /// The prefix.
        prefix: Prefix<F>,
    },
    /// Says what of a Service is not in the tables. Nothing acts on it, people read it.
    PutShortfall {
        /// The row.
        row: u32,
        /// What is said there.
        shortfall: Box<Shortfall>,
    },
    /// Says it no more.
    RemoveShortfall {
        /// The row.
        row: u32,
    },
    /// Raises the generation of a backend in place: whoever remembers it learns that it is gone.
    RetireBackend {
        /// Its row.
        id: BackendId,
        /// What the row holds from now on: the same address and port, a higher generation. A
        /// dataplane may write all of it or the generation alone.
        backend: Backend<F>,
    },
    /// Clears a Service port's row ([`Service::GONE`]) and its name. No frontend points at it, and it has no
    /// source ranges.
    RemoveService {
        /// The row.
        index: ServiceIndex,
    },
}

/// Which of the backend sets of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// [`Service::cluster`](proxy_common::service::Service::cluster).
    Cluster,
    /// [`Service::local`](proxy_common::service::Service::local).
    Local,
}

impl SetKind {
    /// Both, in the order of their words in a row.
    pub const ALL: [Self; 2] = [Self::Cluster, Self::Local];

    /// This set of a row.
    #[must_use]
    pub const fn of(self, row: &Service) -> BackendSet {
        match self {
            Self::Cluster => row.cluster,
            Self::Local => row.local,
        }
    }
}

/// Why a dataplane has not carried out an operation.
pub trait Refusal: Error + Send + Sync + 'static {
    /// The table, if one has refused it.
    fn table(&self) -> Option<&str> {
        None
    }

    /// Whether that is full.
    fn is_full(&self) -> bool {
        false
    }
}

/// The tables of one family, to be written.
pub trait Dataplane<F: Family> {
    /// Why an operation may fail.
    type Error: Refusal;

    /// Carries out the operations in their order and stops at the first that fails, which then has
    /// had no effect. What was not carried out is asked for again later, if it is still wanted.
    ///
    /// # Errors
    ///
    /// How many operations were carried out, and what became of the next.
    fn apply(&mut self, ops: &[Op<F>]) -> Result<(), Failure<Self::Error>>;

    /// Takes over what the tables hold, and tells of it. To be called before anything is written.
    ///
    /// # Errors
    ///
    /// If a table cannot be read, or what goes with it not be mended.
    fn take_over(&mut self) -> Result<Contents<F>, Self::Error>;

    /// Much has been done, and hardly anything will be for a while: what is held for it may be given
    /// back.
    fn rest(&mut self) {}
}

/// Where a list of operations stopped.
#[derive(Debug)]
pub struct Failure<E> {
    /// How many operations before it were carried out.
    pub applied: usize,
    /// Why the next one was not.
    pub error: E,
}

impl<F: Family> Op<F> {
    /// What it does, in a word, for messages.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::PutBackend { .. } => "write a backend",
            Self::SetStanding { .. } => "set the standing of a backend",
            Self::PutSlots { .. } => "write slots",
            Self::PutSet { .. } => "publish a backend set",
            Self::PutPolicy { .. } => "set a policy",
            Self::PutSourceRange { .. } => "admit a source range",
            Self::RemoveSourceRange { .. } => "stop admitting a source range",
            Self::PutName { .. } => "write a name",
            Self::PutFrontend { .. } => "add a frontend",
            Self::RemoveFrontend { .. } => "remove a frontend",
            Self::PutServiceCidr { .. } => "guard a Service CIDR",
            Self::RemoveServiceCidr { .. } => "stop guarding a Service CIDR",
            Self::RetireBackend { .. } => "retire a backend",
            Self::RemoveService { .. } => "clear a Service port",
            Self::PutShortfall { .. } => "say what is missing",
            Self::RemoveShortfall { .. } => "stop saying what is missing",
        }
    }

    /// What that is done to, for messages, if it has a name.
    #[must_use]
    pub fn object(&self) -> Option<String> {
        let prefix = |prefix: &Prefix<F>| {
            let address: IpAddr = prefix.address.into();
            format!("{address}/{}", prefix.length)
        };
        match self {
            Self::PutFrontend { key, .. } | Self::RemoveFrontend { key } => Some(name_of(key)),
            Self::PutSourceRange { range, .. } | Self::RemoveSourceRange { range, .. } => {
                Some(prefix(range))
            }
            Self::PutServiceCidr { prefix: cidr } | Self::RemoveServiceCidr { prefix: cidr } => {
                Some(prefix(cidr))
            }
            _ => None,
        }
    }
}

/// What a frontend is called in messages.
#[must_use]
pub fn name_of<F: Family>(key: &FrontendKey<F>) -> String {
    let address: IpAddr = key.address.into();
    if key.protocol == Protocol::ANY {
        return address.to_string();
    }
    format!("{}/{}", SocketAddr::new(address, key.port.number()), key.protocol)
}

impl fmt::Display for SetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Local => "local",
        })
    }
}
