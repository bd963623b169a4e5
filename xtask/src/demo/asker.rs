// SPDX-License-Identifier: Apache-2.0
//! Who asks the Services: a pod on each node, and the first node itself.

use std::{fmt, net::IpAddr};

use proxy_tests::{
    family::{DualAddress, IpFamily},
    topology::Host,
};

use super::cluster::{Cluster, NODES};

/// A client of Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// The client pod on this node, by its place in [`NODES`].
    Pod(usize),
    /// A process in the network namespace of this node.
    Node(usize),
}

impl Asker {
    /// All that ask.
    pub(super) const ALL: [Self; 3] = [Self::Pod(0), Self::Pod(1), Self::Node(0)];

    /// Its network namespace.
    pub(super) fn host<'a>(self, cluster: &Cluster<'a>) -> &'a Host {
        match self {
            Self::Pod(node) => cluster.topology.pod(NODES[node].2),
            Self::Node(node) => cluster.topology.node(NODES[node].0).host(),
        }
    }

    /// The name of its node.
    pub(super) const fn node(self) -> &'static str {
        let (Self::Pod(node) | Self::Node(node)) = self;
        NODES[node].0
    }

    /// Whether the source that a pod has seen is its own: of a node, that towards the nodes, or that
    /// towards its pods.
    pub(super) fn has(self, cluster: &Cluster<'_>, source: IpAddr) -> bool {
        let family = IpFamily::of(source);
        let own = self.host(cluster).address(family);
        match self {
            Self::Pod(_) => source == own,
            Self::Node(node) => {
                let number = cluster.topology.node(NODES[node].0).number();
                source == own || source == DualAddress::pod(number, 1).of(family)
            }
        }
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(node) => write!(formatter, "{} on {}", NODES[*node].2, NODES[*node].0),
            Self::Node(node) => write!(formatter, "{} itself", NODES[*node].0),
        }
    }
}
