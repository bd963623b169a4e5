// SPDX-License-Identifier: Apache-2.0
//! A node with an agent, the API that it follows, a pod that asks, and one that answers.

use std::{net::SocketAddr, path::PathBuf, time::Instant};

use anyhow::{Result, ensure};
use proxy_tests::{
    agent::{Agent, AgentSpec},
    api::crowd::{Crowd, PORT},
    family::IpFamily,
    netns::Namespace,
    scratch::Scratch,
    topology::{NodeSpec, Topology, TopologySpec},
};
use tokio::runtime::Handle;

use super::{
    api::Api,
    endpoints::Endpoints,
    usage::{self, Memory},
};
use crate::{bench::setup::Setup, progress::Part};

/// How many endpoints each Service has in each family.
pub(super) const ENDPOINTS: u32 = 10;

const NODE: &str = "node";
const CLIENT: &str = "client";
const SERVER: &str = "server";

/// All but the agent.
pub(super) struct Ground {
    crowd: Crowd,
    api: Api,
    topology: Topology,
    kubeconfig: PathBuf,
    _scratch: Scratch,
    _endpoints: Endpoints,
}

impl Ground {
    /// Makes a node and its pods, and an API server with so many Services.
    ///
    /// # Errors
    ///
    /// If namespaces cannot be made.
    pub(super) fn new(services: u32, runtime: &Handle) -> Result<Self> {
        let crowd = Crowd { services, endpoints: ENDPOINTS };
        let part = Part::new(format_args!("an API server with {services} Services"), 3);
        part.on("a node and two pods");
        let node = NodeSpec::routed(NODE).pod(CLIENT, 11).pod(SERVER, 12);
        let topology = TopologySpec::new().node(node).build()?;
        let node = topology.node(NODE);
        part.done();
        part.on("endpoints");
        let endpoints = Endpoints::start(node, topology.pod(SERVER), runtime)?;
        part.done();
        part.on("objects");
        let scratch = Scratch::new("bench")?;
        let api = Api::start(crowd, node, scratch.path(), runtime)?;
        let kubeconfig = scratch.path().join("kubeconfig");
        api.write_kubeconfig(&kubeconfig)?;
        part.done();
        Ok(Self { crowd, api, topology, kubeconfig, _scratch: scratch, _endpoints: endpoints })
    }
}

/// The ground with an agent.
pub(super) struct Stage<'a> {
    pub(super) crowd: Crowd,
    pub(super) api: &'a Api,
    client: &'a Namespace,
    node: &'a Namespace,
    pub(super) agent: Agent<'a>,
}

impl<'a> Stage<'a> {
    /// Starts an agent, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub(super) fn start(ground: &'a Ground, setup: &Setup) -> Result<Self> {
        let Ground { crowd, api, topology, kubeconfig, .. } = ground;
        let node = topology.node(NODE).host();
        let agent = AgentSpec::following(node, kubeconfig).log_level("info");
        let agent = agent.binary(&setup.sixfour).start()?;
        let client = topology.pod(CLIENT).namespace();
        Ok(Self { crowd: *crowd, api, client, node: node.namespace(), agent })
    }

    /// Where a Service is reached.
    pub(super) fn target(number: u32, family: IpFamily) -> SocketAddr {
        SocketAddr::new(Crowd::cluster_ip(number, family), PORT)
    }

    /// The namespace of the pod that asks.
    pub(super) const fn client(&self) -> &'a Namespace {
        self.client
    }

    /// How long a bare client takes for the lists, in seconds.
    ///
    /// # Errors
    ///
    /// If the API does not answer.
    pub(super) fn time_lists(&self) -> Result<f64> {
        let begun = Instant::now();
        let bytes = self.api.read_lists(self.node)?;
        ensure!(bytes > 0, "the lists are empty");
        Ok(begun.elapsed().as_secs_f64())
    }

    /// The agent's memory.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub(super) fn memory(&self) -> Result<Memory> {
        usage::memory(&self.agent)
    }

    /// Ends the agent.
    ///
    /// # Errors
    ///
    /// If it does not end well.
    pub(super) fn stop(mut self) -> Result<()> {
        let status = self.agent.stop()?;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }
}
