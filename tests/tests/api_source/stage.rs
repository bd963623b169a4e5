// SPDX-License-Identifier: Apache-2.0

//! An API, a proxy in front of it, and a source that follows it.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{LazyLock, Once};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proxy_agent::metrics::Watches;
use proxy_agent::watch::kubernetes::Timing;
use proxy_tests::api::envtest::{ASSETS, ControlPlane};
use proxy_tests::api::kind::Kind;
use proxy_tests::api::pki::Authority;
use proxy_tests::api::proxy::FaultProxy;
use proxy_tests::api::replay::{Door, ReplayServer};
use proxy_tests::api::{ApiClient, Upstream, kubeconfig, recorded};
use proxy_tests::family::DualAddress;
use proxy_tests::manifests::{Endpoint, Service};
use proxy_tests::protocol::Protocol;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::follower::{Follower, Objects, read};

/// The runtime of servers and proxies.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("starting threads for servers")
});

/// An API with objects, and a proxy in front of it.
pub(crate) struct Stage {
    pub(crate) proxy: FaultProxy,
    pub(crate) client: ApiClient,
    pub(crate) directory: TempDir,
    pub(crate) timing: Timing,
    api: Api,
}

/// What the proxy is in front of.
enum Api {
    Replay(ReplayServer),
    Real(#[expect(dead_code, reason = "it runs as long as it is held")] Box<ControlPlane>),
}

/// Times that suit a server which sends bookmarks five times a second.
pub(crate) const TIMING: Timing = Timing {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(1),
    list: Duration::from_secs(10),
    silence: Duration::from_secs(1),
    initial_silence: Duration::from_millis(500),
    initial: Duration::from_secs(5),
    watch: Duration::from_mins(5),
    first_pause: Duration::from_millis(10),
    longest_pause: Duration::from_millis(200),
    reset_pauses: Duration::from_secs(2),
    absent: Duration::from_millis(200),
};

impl Stage {
    /// The API that the environment names, or the one that replays recordings, with the Services
    /// `stay-1` to `stay-5`, which nobody changes.
    pub(crate) fn new() -> Result<Self> {
        let stage = Self::with(env::var_os(ASSETS).map(PathBuf::from))?;
        stage.prepare()?;
        Ok(stage)
    }

    /// The API that replays recordings, with nothing else in it, for what cannot be asked of
    /// another.
    pub(crate) fn of_recordings() -> Result<Self> {
        Self::with(None)
    }

    fn with(assets: Option<PathBuf>) -> Result<Self> {
        static SAID: Once = Once::new();
        let runtime = RUNTIME.handle();
        let mut timing = TIMING;
        let (api, upstream) = if let Some(assets) = assets {
            SAID.call_once(|| println!("the API is that of {}", assets.display()));
            let control_plane =
                ControlPlane::start(&assets, DualAddress::service_ranges(), runtime)?;
            // It sends bookmarks once a minute.
            timing.silence = Duration::from_secs(4);
            timing.answer = Duration::from_secs(8);
            let upstream = control_plane.upstream();
            (Api::Real(Box::new(control_plane)), upstream)
        } else {
            SAID.call_once(|| println!("{ASSETS} is not set: the API replays recordings"));
            let server = ReplayServer::start(Door::default(), runtime)?;
            server.load(recorded::LISTS)?;
            server.set_revision(recorded::REVISION);
            let upstream = Upstream { address: server.address(), tls: None };
            (Api::Replay(server), upstream)
        };
        let client = ApiClient::new(upstream.clone(), runtime.clone());
        let authority = Authority::new()?;
        let any = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let identity = authority.server(&[any.ip()], &[])?;
        let tls = authority.server_config(&identity, false)?;
        let proxy = FaultProxy::start(any, Some(tls), upstream, runtime)?;
        let directory = tempfile::tempdir()?;
        let cluster = json!({
            "certificate-authority-data": STANDARD.encode(authority.certificate()),
        });
        let path = directory.path().join("kubeconfig");
        kubeconfig::write(&path, "https", proxy.address(), &cluster, &json!({}))?;
        Ok(Self { proxy, client, directory, timing, api })
    }

    fn prepare(&self) -> Result<()> {
        if matches!(self.api, Api::Real(_)) {
            self.client.make_namespace("anc")?;
            let nodes: Value = serde_json::from_str(recorded::LISTS[2])?;
            for node in nodes["items"].as_array().into_iter().flatten() {
                let name = &node["metadata"]["name"];
                self.client.apply(&json!({
                    "apiVersion": "v1", "kind": "Node",
                    "metadata": { "name": name, "labels": node["metadata"]["labels"] },
                    "status": { "addresses": node["status"]["addresses"] },
                }))?;
            }
        }
        let begun = Instant::now();
        for number in 1..=5 {
            let service = service(&format!("stay-{number}"), number, 80, 2);
            // A new API server takes some seconds until it gives out cluster IPs.
            while let Err(error) = self.apply(&service) {
                ensure!(begun.elapsed() < Duration::from_secs(20), "{error:#}");
                sleep(Duration::from_millis(200));
            }
        }
        Ok(())
    }

    /// The server, where it replays recordings.
    pub(crate) fn replay(&self) -> Result<&ReplayServer> {
        match &self.api {
            Api::Replay(server) => Ok(server),
            Api::Real(_) => anyhow::bail!("this needs a server of recordings"),
        }
    }

    /// Makes or replaces a Service with its slices.
    pub(crate) fn apply(&self, service: &Service) -> Result<()> {
        service.objects().iter().try_for_each(|object| self.client.apply(object))
    }

    /// Removes a Service with its slices.
    pub(crate) fn delete(&self, service: &Service) -> Result<()> {
        service.objects().iter().try_for_each(|object| self.client.delete(object))
    }

    /// A source that follows the API through the proxy, as the Node of the recordings.
    pub(crate) fn follow(&self) -> Result<Follower> {
        Follower::of(&self.directory.path().join("kubeconfig"), recorded::NODE, self.timing)
    }

    /// The same, and tells how it is with it.
    pub(crate) fn follow_measured(&self, watches: Watches) -> Result<Follower> {
        let kubeconfig = self.directory.path().join("kubeconfig");
        Follower::measured(&kubeconfig, recorded::NODE, self.timing, watches)
    }

    /// What a reader finds who comes now, and asks nobody but the API.
    pub(crate) fn expected(&self) -> Result<Objects> {
        let directory = tempfile::tempdir()?;
        for kind in Kind::ALL {
            let list = self.client.list(kind)?.to_string();
            fs::write(directory.path().join(format!("{}.json", kind.plural())), list)?;
        }
        read(directory.path(), recorded::NODE)
    }

    /// Waits until a source has what is there, and looks that it has taken away nothing that was
    /// there all the time.
    pub(crate) fn settle(&self, follower: &Follower) -> Result<()> {
        follower.wait_objects(&self.expected()?)?;
        let said = follower.said();
        let stayed: BTreeSet<_> =
            said.deletions().filter(|key| key.name.name.starts_with("stay-")).collect();
        ensure!(stayed.is_empty(), "{stayed:?} were deleted though they stayed");
        ensure!(said.ended.is_none(), "it has ended: {:?}", said.ended);
        Ok(())
    }

    /// Waits until everything that was planned has happened.
    pub(crate) fn wait_done(&self, follower: &Follower) -> Result<()> {
        follower
            .wait("the faults", |_| self.proxy.is_done())
            .with_context(|| format!("{:?}", self.proxy.asked()))
    }
}

/// A Service with a port and some endpoints.
pub(crate) fn service(name: &str, number: u8, port: u16, endpoints: u8) -> Service {
    let endpoint = |host: u8| {
        let address = DualAddress::pod(1, number.wrapping_mul(7).wrapping_add(host) % 90 + 10);
        Endpoint::at([address.v4.into(), address.v6.into()])
    };
    // The first addresses are taken.
    Service::dual(name, DualAddress::cluster_ip(number + 10))
        .port("http", Protocol::Tcp, port, 8080)
        .endpoints((0..endpoints).map(endpoint))
}
