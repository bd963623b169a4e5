// SPDX-License-Identifier: Apache-2.0

//! An API in this process, and a way to it from the agent's node that can be cut.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::Result;
use proxy_tests::agent::AgentSpec;
use proxy_tests::api::Upstream;
use proxy_tests::api::forwarder::Forwarder;
use proxy_tests::api::kubeconfig;
use proxy_tests::api::proxy::FaultProxy;
use proxy_tests::api::replay::{Door, ReplayServer};
use proxy_tests::manifests::{node_object, service_cidr_object};
use proxy_tests::scratch::Scratch;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::objects::Objects;
use super::rig::Rig;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("starting threads for servers")
});

/// The API, with the objects of the load.
pub(crate) struct DistantApi {
    pub(crate) server: ReplayServer,
    /// The way to it, which can be cut.
    pub(crate) way: FaultProxy,
    kubeconfig: PathBuf,
    _door: Forwarder,
    _scratch: Scratch,
}

impl DistantApi {
    pub(crate) fn new(rig: &Rig) -> Result<Self> {
        let server = ReplayServer::start(Door::default(), RUNTIME.handle())?;
        server.apply(&service_cidr_object())?;
        for node in rig.cluster.topology.nodes() {
            server.apply(&node_object(node, None))?;
        }
        rig.turn(Objects::Api(&server), 0)?;
        let upstream = Upstream { address: server.address(), tls: None };
        let any = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let way = FaultProxy::start(any, None, upstream, RUNTIME.handle())?;
        let door = Forwarder::start(rig.node().namespace(), way.address(), RUNTIME.handle())?;
        let scratch = Scratch::new("api")?;
        let kubeconfig = scratch.path().join("kubeconfig");
        kubeconfig::write(&kubeconfig, "http", door.address(), &json!({}), &json!({}))?;
        Ok(Self { server, way, kubeconfig, _door: door, _scratch: scratch })
    }

    /// Its objects.
    pub(crate) const fn objects(&self) -> Objects<'_> {
        Objects::Api(&self.server)
    }

    /// An agent that follows it.
    pub(crate) fn agent<'a>(&'a self, rig: &'a Rig) -> AgentSpec<'a> {
        AgentSpec::following(rig.node(), &self.kubeconfig).log_level("info")
    }
}
