// SPDX-License-Identifier: Apache-2.0
//! The nodes that are measured: each with another proxy or other Services, a client and a server; all
//! of them at once, so that rounds can go from one to the other.

mod filler;
mod measured;
mod node;
mod others;

use anyhow::{Context as _, Result};
use proxy_tests::{
    family::IpFamily,
    manifests::Manifests,
    topology::{NodeSpec, Topology, TopologySpec},
};

use super::{evidence::Counted, kube_proxy, setup::Setup};
use crate::progress::Part;

pub(crate) use measured::{EXCHANGES, Measured, STREAMS};
pub(crate) use node::{Client, Node};

/// The host number of the client of a node.
const CLIENT: u8 = 11;

/// What serves the Services of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// Nothing, and netfilter has no rules.
    None,
    /// The agent.
    Sixfour,
    /// The agent, with the fast path.
    FastSixfour,
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
}

impl Kind {
    /// How many Services there are beside those that are measured.
    const fn others(self) -> u32 {
        self.services.saturating_sub(measured::COUNT)
    }
}

/// The namespaces and the files of nodes.
pub(crate) struct Ground {
    kinds: Vec<Kind>,
    topology: Topology,
    manifests: Vec<Manifests>,
}

impl Ground {
    /// Makes a node of each kind, with a client and a server.
    ///
    /// # Errors
    ///
    /// If namespaces cannot be made.
    pub(crate) fn new(kinds: Vec<Kind>) -> Result<Self> {
        let mut spec = TopologySpec::new();
        for place in 0..kinds.len() {
            let node = NodeSpec::routed(&name("node", place));
            spec = spec
                .node(node.pod(&name("c", place), CLIENT).pod(&name("s", place), measured::FIRST));
        }
        let what = "nodes, with a client and a server on each";
        let part = Part::new(format_args!("{} {what}", kinds.len()), kinds.len() * 3);
        let topology = spec.build_with_progress(|step| {
            part.on(step);
            part.done();
        })?;
        for place in 0..kinds.len() {
            let server = topology.pod(&name("s", place));
            measured::add_addresses(topology.node(&name("node", place)), server)?;
        }
        let manifests = kinds.iter().map(|_| Manifests::new()).collect::<Result<_>>()?;
        Ok(Self { kinds, topology, manifests })
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
            let topology = &ground.topology;
            let node = Node::start(
                kind,
                topology.node(&name("node", place)),
                [topology.pod(&name("c", place)), topology.pod(&name("s", place))],
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
