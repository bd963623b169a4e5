// SPDX-License-Identifier: Apache-2.0
//! Who asks the Services: a pod on each node and the first node itself; and from outside a machine
//! at each node, and one from afar.

use std::{fmt, net::IpAddr};

use proxy_tests::{
    family::{DualAddress, IpFamily},
    topology::{Host, Node},
};

use super::cluster::{Cluster, FAR, NODES, OUTSIDE};

/// A client of Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// The client pod on this node, by its place in [`NODES`].
    Pod(usize),
    /// A process in the network namespace of this node.
    Node(usize),
    /// The machine of the nodes' network that asks at this node.
    Outside(usize),
    /// The machine behind that of the first node, which asks there, too.
    Far,
}

/// As whom a pod has seen who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SeenAs {
    /// As the client that it is.
    Client,
    /// As the node that was asked.
    Node,
}

impl Asker {
    /// All that ask from within the cluster.
    pub(super) const INSIDE: [Self; 3] = [Self::Pod(0), Self::Pod(1), Self::Node(0)];

    /// All that ask from outside.
    pub(super) const OUTSIDE: [Self; 3] = [Self::Outside(0), Self::Outside(1), Self::Far];

    /// Its network namespace.
    pub(super) fn host<'a>(self, cluster: &Cluster<'a>) -> &'a Host {
        match self {
            Self::Pod(node) => cluster.topology.pod(NODES[node].2),
            Self::Node(node) => cluster.topology.node(NODES[node].0).host(),
            Self::Outside(node) => cluster.topology.outsider(OUTSIDE[node]),
            Self::Far => cluster.topology.outsider(FAR),
        }
    }

    /// Its node, or the one that it asks at.
    pub(super) fn node<'a>(self, cluster: &Cluster<'a>) -> &'a Node {
        let (Self::Pod(node) | Self::Node(node) | Self::Outside(node)) = self else {
            return cluster.topology.node(NODES[0].0);
        };
        cluster.topology.node(NODES[node].0)
    }

    /// As whom a pod must see it: from outside, as the asked node where the answer would not come
    /// back through it otherwise.
    pub(super) fn must_be_seen_as(self, cluster: &Cluster<'_>, pod: &Host) -> SeenAs {
        match self {
            Self::Outside(_) | Self::Far if pod.node() != self.node(cluster).host().node() => {
                SeenAs::Node
            }
            _ => SeenAs::Client,
        }
    }

    /// Whether the source that a pod has seen is its own, or that of the asked node: of a node that
    /// asks itself, that towards the nodes, or that towards its pods.
    pub(super) fn has(self, cluster: &Cluster<'_>, source: IpAddr, seen_as: SeenAs) -> bool {
        let family = IpFamily::of(source);
        let node = self.node(cluster);
        match (seen_as, self) {
            (SeenAs::Client, Self::Node(_)) => {
                source == node.host().address(family)
                    || source == DualAddress::pod(node.number(), 1).of(family)
            }
            (SeenAs::Client, _) => source == self.host(cluster).address(family),
            (SeenAs::Node, _) => source == node.host().address(family),
        }
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(node) => write!(formatter, "{} on {}", NODES[*node].2, NODES[*node].0),
            Self::Node(node) => write!(formatter, "{} itself", NODES[*node].0),
            Self::Outside(node) => write!(formatter, "{} at {}", OUTSIDE[*node], NODES[*node].0),
            Self::Far => write!(formatter, "{FAR} at {}", NODES[0].0),
        }
    }
}

impl fmt::Display for SeenAs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Client => "client",
            Self::Node => "node",
        })
    }
}
