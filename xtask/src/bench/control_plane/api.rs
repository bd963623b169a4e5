// SPDX-License-Identifier: Apache-2.0
//! The API that the agent follows, with all objects.

use std::{net::SocketAddr, path::Path, time::Instant};

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use proxy_tests::{
    api::{
        Upstream,
        crowd::Crowd,
        kind::Kind,
        kubeconfig,
        replay::{Door, ReplayServer},
    },
    manifests::node_object,
    netns::Namespace,
    topology::Node,
};
use serde_json::{Value, json};
use tokio::runtime::{self, Handle};

/// An API server in the namespace of a node.
pub(super) struct Api {
    server: ReplayServer,
}

impl Api {
    /// Starts it with all objects of a crowd, and a node.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    pub(super) fn start(crowd: Crowd, node: &Node, runtime: &Handle) -> Result<Self> {
        let door = Door {
            address: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            namespace: Some(node.host().namespace()),
            ..Door::default()
        };
        let server = ReplayServer::start(door, runtime)?;
        server.fill(crowd.objects().chain([node_object(node, None)]));
        Ok(Self { server })
    }

    /// Writes a kubeconfig that names it.
    pub(super) fn write_kubeconfig(&self, path: &Path) -> Result<()> {
        kubeconfig::write(path, "http", self.server.address(), &json!({}), &json!({}))
    }

    /// Makes an object, or replaces it.
    pub(super) fn apply(&self, object: &Value) -> Result<()> {
        self.server.apply(object)
    }

    /// When a change was last written into a stream.
    pub(super) fn last_sent(&self) -> Result<Instant> {
        self.server.last_sent().context("the API has sent no change")
    }

    /// Reads the lists of all kinds at once, as the agent does, and returns how many bytes they have.
    /// What is read is thrown away.
    pub(super) fn read_lists(&self, namespace: &Namespace) -> Result<usize> {
        let upstream = Upstream { address: self.server.address(), tls: None };
        namespace.run(|| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let lists = Kind::ALL.map(|kind| upstream.stream_length(kind));
            Ok(runtime.block_on(try_join_all(lists))?.into_iter().sum())
        })
    }
}
