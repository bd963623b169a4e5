// SPDX-License-Identifier: Apache-2.0
//! The nodes that are measured: each with another proxy or other Services, a client and a server; all
//! of them at once, so that rounds can go from one to the other.

mod filler;
mod measured;
mod node;
mod others;
mod outside;

use anyhow::{Context as _, Result};
use proxy_tests::{
    family::{DualAddress, IpFamily},
    manifests::Manifests,
    netns::Card,
    topology::{Host, NodeSpec, Topology, TopologySpec, pod_device},
};

use super::{evidence::Counted, kube_proxy, setup::Setup};
use crate::progress::Part;

pub(crate) use measured::{EXCHANGES, Measured, STREAMS};
pub(crate) use node::{Client, Node};

/// The host number of the client of a node.
const CLIENT: u8 = 11;

/// The host number, in the nodes' network, of the first machine outside.
const FIRST_OUTSIDE: u8 = 100;

/// What serves the Services of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// Nothing, and netfilter has no rules.
    None,
    /// The agent.
    Sixfour,
    /// The agent, with the fast path.
    FastSixfour,
    /// The agent, with programs in the drivers of uplinks.
    XdpSixfour,
    /// The rules of kube-proxy in this mode.
    Rules(kube_proxy::Mode),
}

/// What a node is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// What serves its Services.
    pub(crate) proxy: Proxy,
    /// How many there are, those that are measured included.
    pub(crate) services: u32,
    /// How many flows the agent's table of each family holds at first.
    pub(crate) flows: u32,
    /// How many it has room for, if not as many as by default.
    pub(crate) room: Option<u32>,
}

impl Kind {
    /// How many Services there are beside those that are measured.
    const fn others(self) -> u32 {
        self.services.saturating_sub(measured::COUNT)
    }
}

/// Where clients and servers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Pods of the node.
    OnNode,
    /// Machines on both sides of the node, with network cards.
    Through,
    /// The client is a machine outside, and the server runs on the node itself.
    ToNode,
}

impl Layout {
    /// The number of the node whose pods have the endpoints' addresses.
    const fn servers(self, node: u8) -> u8 {
        match self {
            Self::Through => outside::SERVER,
            Self::OnNode | Self::ToNode => node,
        }
    }

    /// The server's own address.
    const fn server(self, node: u8) -> DualAddress {
        match self {
            Self::ToNode => outside::NODE_ADDRESS,
            Self::OnNode | Self::Through => DualAddress::pod(self.servers(node), measured::FIRST),
        }
    }
}

/// The namespaces and the files of nodes.
pub(crate) struct Ground {
    layout: Layout,
    kinds: Vec<Kind>,
    topology: Topology,
    manifests: Vec<Manifests>,
    cards: Vec<Card>,
}

impl Ground {
    /// Makes a node of each kind, with a client and a server.
    ///
    /// # Errors
    ///
    /// If namespaces cannot be made.
    pub(crate) fn new(layout: Layout, kinds: Vec<Kind>) -> Result<Self> {
        let mut spec = TopologySpec::new();
        for (place, number) in (0..kinds.len()).zip(FIRST_OUTSIDE..) {
            let node = NodeSpec::routed(&name("node", place));
            let (client, server) = (name("c", place), name("s", place));
            spec = match layout {
                Layout::OnNode => {
                    spec.node(node.pod(&client, CLIENT).pod(&server, measured::FIRST))
                }
                Layout::Through => {
                    let number = 2 * number - FIRST_OUTSIDE;
                    spec.node(node).outsider(&client, number).outsider(&server, number + 1)
                }
                Layout::ToNode => spec.node(node).outsider(&client, number),
            };
        }
        let what = "nodes, with a client and a server each";
        let machines = if layout == Layout::ToNode { 2 } else { 3 };
        let part = Part::new(format_args!("{} {what}", kinds.len()), kinds.len() * machines);
        let topology = spec.build_with_progress(|step| {
            part.on(step);
            part.done();
        })?;
        let manifests = kinds.iter().map(|_| Manifests::new()).collect::<Result<_>>()?;
        let mut ground = Self { layout, kinds, topology, manifests, cards: Vec::new() };
        for place in 0..ground.kinds.len() {
            let cards = ground.join(place)?;
            ground.cards.extend(cards);
        }
        Ok(ground)
    }

    /// Has a client and a server reach each other by their node, and returns their network cards.
    fn join(&self, place: usize) -> Result<Vec<Card>> {
        let node = self.topology.node(&name("node", place));
        let here = node.host().namespace();
        let [client, server] = self.client_and_server(place).map(Host::namespace);
        match self.layout {
            Layout::OnNode => {
                let device = pod_device(&name("s", place));
                measured::add_addresses(node.number(), (here, &device), server)?;
                Ok(Vec::new())
            }
            Layout::Through => {
                outside::join_client(here, client)?;
                outside::join_server(here, server)?;
                [client, server].into_iter().map(outside::be_network_card).collect()
            }
            Layout::ToNode => {
                outside::join_client(here, client)?;
                outside::take_frames(client)?;
                Ok(Vec::new())
            }
        }
    }

    fn client_and_server(&self, place: usize) -> [&Host; 2] {
        let (client, server) = (name("c", place), name("s", place));
        match self.layout {
            Layout::OnNode => [self.topology.pod(&client), self.topology.pod(&server)],
            Layout::Through => [self.topology.outsider(&client), self.topology.outsider(&server)],
            Layout::ToNode => {
                [self.topology.outsider(&client), self.topology.node(&name("node", place)).host()]
            }
        }
    }
}

fn name(what: &str, place: usize) -> String {
    format!("{what}-{}", place + 1)
}

/// The nodes with everything that runs there.
pub(crate) struct Network<'a> {
    nodes: Vec<Node<'a>>,
}

impl<'a> Network<'a> {
    /// Starts the servers and the proxies.
    ///
    /// # Errors
    ///
    /// If one does not start.
    pub(crate) fn start(ground: &'a Ground, setup: &Setup) -> Result<Self> {
        let part = Part::new("their servers and proxies", ground.kinds.len());
        let start = |(place, manifests)| {
            let kind: Kind = ground.kinds[place];
            part.on(format_args!("{:?}, {} Services", kind.proxy, kind.services));
            let node = Node::start(
                (ground.layout, kind),
                ground.topology.node(&name("node", place)),
                ground.client_and_server(place),
                manifests,
                setup,
            )?;
            part.done();
            Ok(node)
        };
        Ok(Self { nodes: ground.manifests.iter().enumerate().map(start).collect::<Result<_>>()? })
    }

    /// The node of a kind.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(crate) fn node(&self, kind: Kind) -> Result<&Node<'a>> {
        let node = self.nodes.iter().find(|node| node.kind == kind);
        node.with_context(|| format!("there is no node with {kind:?}"))
    }

    /// What the agents have counted so far, in one family.
    ///
    /// # Errors
    ///
    /// If their counters cannot be read.
    pub(crate) fn counted(&self, family: IpFamily) -> Result<Vec<(Kind, Counted)>> {
        let agents = self.nodes.iter().filter_map(|node| Some((node.kind, node.agent()?)));
        agents.map(|(kind, agent)| Ok((kind, Counted::read(agent, family)?))).collect()
    }

    /// Ends the agents.
    ///
    /// # Errors
    ///
    /// If one does not end well.
    pub(crate) fn stop(self) -> Result<()> {
        self.nodes.into_iter().try_for_each(Node::stop)
    }
}
