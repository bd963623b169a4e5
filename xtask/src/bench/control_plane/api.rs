// SPDX-License-Identifier: Apache-2.0
//! The API that the agent follows, with all objects: a real one where the environment names its
//! programs, or that of the tests.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use proxy_tests::{
    api::{
        Upstream,
        crowd::{Crowd, service_range},
        envtest::{ASSETS, ControlPlane},
        kind::Kind,
        kubeconfig,
        replay::{Door, ReplayServer},
    },
    family::IpFamily,
    manifests::node_object,
    netns::Namespace,
    topology::Node,
};
use serde_json::{Value, json};
use tokio::runtime::{self, Handle};

use super::real::Real;

/// An API server that a node reaches.
pub(super) enum Api {
    Replaying(ReplayServer),
    Real { api: Box<Real>, _programs: Box<ControlPlane> },
}

/// Whose API this is, as a note says it.
pub(super) fn name() -> String {
    match assets() {
        Some(assets) => format!("the kube-apiserver of {}", assets.display()),
        None => "that of the tests, which replays".to_owned(),
    }
}

fn assets() -> Option<PathBuf> {
    env::var_os(ASSETS).map(PathBuf::from)
}

impl Api {
    /// Starts it with all objects of a crowd, and a node.
    ///
    /// # Errors
    ///
    /// If it does not start, or refuses an object.
    pub(super) fn start(
        crowd: Crowd,
        node: &Node,
        scratch: &Path,
        runtime: &Handle,
    ) -> Result<Self> {
        let namespace = node.host().namespace();
        let node = node_object(node, None);
        if let Some(assets) = assets() {
            let programs = ControlPlane::start(&assets, IpFamily::ALL.map(service_range), runtime)?;
            let (cluster, user) = programs.kubeconfig(scratch)?;
            let api = Real::start(programs.upstream(), (cluster, user), namespace, runtime)?;
            api.fill(crowd, &node)?;
            return Ok(Self::Real { api: Box::new(api), _programs: Box::new(programs) });
        }
        let door = Door {
            address: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            namespace: Some(namespace),
            ..Door::default()
        };
        let server = ReplayServer::start(door, runtime)?;
        server.fill(crowd.objects().chain([node]));
        Ok(Self::Replaying(server))
    }

    /// Writes a kubeconfig that names it.
    pub(super) fn write_kubeconfig(&self, path: &Path) -> Result<()> {
        match self {
            Self::Replaying(server) => {
                kubeconfig::write(path, "http", server.address(), &json!({}), &json!({}))
            }
            Self::Real { api, .. } => api.write_kubeconfig(path),
        }
    }

    /// Replaces an object.
    pub(super) fn replace(&self, object: &Value) -> Result<()> {
        match self {
            Self::Replaying(server) => server.apply(object),
            Self::Real { api, .. } => api.replace(object),
        }
    }

    /// When the change that was asked for at this time was written into the agent's stream: the only
    /// change since.
    pub(super) fn sent_since(&self, time: Instant) -> Result<Instant> {
        let sent = match self {
            Self::Replaying(server) => server.last_sent(),
            Self::Real { api, .. } => api.sent_since(time),
        };
        sent.context("the API has sent no change")
    }

    /// Reads the lists of all kinds at once, as the agent does, and returns how many bytes they have.
    /// What is read is thrown away.
    pub(super) fn read_lists(&self, namespace: &Namespace) -> Result<usize> {
        let upstream = match self {
            Self::Replaying(server) => Upstream { address: server.address(), tls: None },
            Self::Real { api, .. } => api.upstream_of_node(),
        };
        namespace.run(|| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let lists = Kind::ALL.map(|kind| upstream.stream_length(kind));
            Ok(runtime.block_on(try_join_all(lists))?.into_iter().sum())
        })
    }
}
