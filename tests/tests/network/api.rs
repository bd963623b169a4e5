// SPDX-License-Identifier: Apache-2.0

//! An agent that follows the API of another node, over TLS.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::lifecycle::binary;
use anyhow::{Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proxy_tests::agent::{AgentSpec, cgroup_root};
use proxy_tests::api::pki::Authority;
use proxy_tests::api::replay::{Door, ReplayServer};
use proxy_tests::api::{kubeconfig, recorded};
use proxy_tests::both_families;
use proxy_tests::cluster::{Cluster, PATIENCE, PORT, WEB, eventually, web};
use proxy_tests::family::{DualAddress, IpFamily, TestFamily};
use proxy_tests::manifests::{Endpoint, Service, node_object};
use proxy_tests::protocol::Protocol;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::{NodeSpec, TopologySpec};
use proxy_tests::traffic::{Client, Shares};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

both_families!(
    an_api_that_goes_and_comes_loses_no_request,
    an_api_behind_a_service_of_the_node_is_refused,
    an_agent_in_a_pod_follows_its_api,
    endpoints_that_cannot_be_served_are_told_of,
);

/// A Service that changes.
pub(crate) const OTHER: DualAddress = DualAddress::cluster_ip(11);
/// Where the API listens.
const API_PORT: u16 = 6443;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("starting threads for servers")
});

/// Two nodes: one runs the agent, the other has the API.
pub(crate) struct Fixture {
    pub(crate) cluster: Cluster,
    pub(crate) scratch: Scratch,
    authority: Authority,
    pub(crate) server: ReplayServer,
}

impl Fixture {
    /// An API that asks agents for certificates, if so.
    pub(crate) fn new<F: TestFamily>(clients: bool) -> Result<Self> {
        let node = NodeSpec::bridge("anc-node").pod("client", 11).pod("web-1", 12).pod("web-2", 13);
        let spec = TopologySpec::new().node(node).node(NodeSpec::bridge("api-node"));
        let cluster = Cluster::new(&spec)?;
        let scratch = Scratch::new("api")?;
        let host = cluster.topology.node("api-node").host();
        let address = host.socket::<F>(API_PORT);
        let authority = Authority::new()?;
        let identity = authority.server(&[address.ip()], &[])?;
        let door = Door {
            address: Some(address),
            namespace: Some(host.namespace()),
            tls: Some(authority.server_config(&identity, clients)?),
            token: None,
        };
        let server = ReplayServer::start(door, RUNTIME.handle())?;
        server.load(recorded::LISTS)?;
        for node in cluster.topology.nodes() {
            server.apply(&node_object(node, None))?;
        }
        let client = authority.client("agent", "system:nodes")?;
        let trusted = json!({
            "certificate-authority-data": STANDARD.encode(authority.certificate()),
        });
        let user = json!({
            "client-certificate-data": STANDARD.encode(&client.certificate),
            "client-key-data": STANDARD.encode(&client.key),
        });
        let path = scratch.path().join("kubeconfig");
        kubeconfig::write(&path, "https", address, &trusted, &user)?;
        Ok(Self { cluster, scratch, authority, server })
    }

    fn apply(&self, service: &Service) -> Result<()> {
        service.objects().iter().try_for_each(|object| self.server.apply(object))
    }

    pub(crate) fn serve(&self, address: DualAddress, name: &str, pod: &str) -> Result<()> {
        self.apply(&web(address, name).pods([self.cluster.topology.pod(pod)]))
    }
}

fn an_api_that_goes_and_comes_loses_no_request<F: TestFamily>() -> Result<()> {
    let fixture = Fixture::new::<F>(true)?;
    let _servers = fixture.cluster.servers(&["web-1", "web-2"])?;
    fixture.serve(WEB, "web", "web-1")?;
    fixture.serve(OTHER, "other", "web-1")?;
    let topology = &fixture.cluster.topology;
    let kubeconfig = fixture.scratch.path().join("kubeconfig");
    let node = topology.node("anc-node").host();
    let mut agent = AgentSpec::following(node, &kubeconfig).start()?;
    let client = Client::new(topology.pod("client"));
    let target = |address: DualAddress| SocketAddr::new(address.of(F::FAMILY), PORT);
    let serves = |pod: &str| {
        eventually(|| client.ask(Protocol::Tcp, target(OTHER)).is_ok_and(|it| it.server == pod))
    };
    let stop = AtomicBool::new(false);
    let (changed, shares) = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let asks = std::iter::from_fn(|| {
                (!stop.load(Ordering::Relaxed)).then(|| client.ask(Protocol::Tcp, target(WEB)))
            });
            asks.collect::<Shares>()
        });
        let changed = (|| -> Result<()> {
            ensure!(serves("web-1"), "the first endpoint does not serve");
            fixture.serve(OTHER, "other", "web-2")?;
            ensure!(serves("web-2"), "a change is not seen");
            // Away for a while, with a change meanwhile.
            fixture.server.down();
            fixture.serve(OTHER, "other", "web-1")?;
            thread::sleep(Duration::from_secs(1));
            fixture.server.up()?;
            ensure!(serves("web-1"), "what changed while the API was away is not seen");
            // The version from before is gone: all is listed anew.
            fixture.server.down();
            fixture.serve(OTHER, "other", "web-2")?;
            fixture.server.compact();
            fixture.server.up()?;
            ensure!(serves("web-2"), "what changed before the list is not seen");
            fixture.serve(OTHER, "other", "web-1")?;
            ensure!(serves("web-1"), "what changes after the list is not seen");
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        (changed, asking.join())
    });
    changed?;
    let Ok(shares) = shares else { bail!("asking has crashed") };
    ensure!(shares.failures.is_empty() && shares.requests() > 100, "{shares}");
    ensure!(shares.is_fair(&["web-1"]), "{shares}");
    let log = agent.log()?;
    ensure!(log.contains("cannot follow the objects of the API"), "it does not say so: {log}");
    ensure!(log.contains("follows the objects of the API again"), "it does not say so: {log}");
    ensure!(agent.stop()?.success());
    Ok(())
}

fn an_api_behind_a_service_of_the_node_is_refused<F: TestFamily>() -> Result<()> {
    let fixture = Fixture::new::<F>(true)?;
    let topology = &fixture.cluster.topology;
    let api = topology.node("api-node").host();
    let address = api.address(F::FAMILY);
    let service = Service::new("kubernetes", [address]).port("https", Protocol::Tcp, 443, API_PORT);
    fixture.apply(&service)?;
    let pins = fixture.scratch.mount_bpffs()?;
    let node = topology.node("anc-node").host().namespace();
    let mut command = node.command(binary()?);
    let _ = command.args(["run", "--hostname-override", "anc-node", "--kubeconfig"]);
    let _ = command.arg(fixture.scratch.path().join("kubeconfig"));
    let _ = command.arg("--pin-root").arg(pins.join("sixfour")).args(cgroup_root(node)?);
    let Output { status, stderr, .. } = node.run(|| Ok(command.output()?))?;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(status.code() == Some(1), "{status}: {said}");
    let expected = format!(
        "sixfour: the API would be reached at {address}, a cluster IP of the Service \
         anc/kubernetes, which this agent programs itself: give --master"
    );
    ensure!(said.lines().any(|line| line.starts_with(&expected)), "{said}");
    Ok(())
}

/// An agent in a pod has the token and the authority of its service account, and two variables that
/// name the API.
fn an_agent_in_a_pod_follows_its_api<F: TestFamily>() -> Result<()> {
    let fixture = Fixture::new::<F>(false)?;
    let _servers = fixture.cluster.servers(&["web-1", "web-2"])?;
    fixture.serve(WEB, "web", "web-1")?;
    fixture.server.set_token("first");
    let root = fixture.scratch.path();
    let account = root.join("var/run/secrets/kubernetes.io/serviceaccount");
    fs::create_dir_all(&account)?;
    fs::write(account.join("ca.crt"), fixture.authority.certificate())?;
    fs::write(account.join("namespace"), "kube-system")?;
    fs::write(account.join("token"), "first")?;
    let topology = &fixture.cluster.topology;
    let address = topology.node("api-node").host().address(F::FAMILY);
    // What a pod sees in /var is seen by nobody else.
    let script = root.join("sixfour-in-a-pod");
    fs::write(
        &script,
        format!(
            "#!/bin/sh\nexport KUBERNETES_SERVICE_HOST={address} KUBERNETES_SERVICE_PORT={API_PORT}\n\
             exec unshare --mount sh -c 'mount --bind {}/var /var && exec \"$0\" \"$@\"' {} \"$@\"\n",
            root.display(),
            binary()?.display(),
        ),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let node = topology.node("anc-node").host();
    let mut agent = AgentSpec::in_pod(node).binary(script).start()?;
    let client = Client::new(topology.pod("client"));
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    ensure!(client.ask(Protocol::Tcp, target)?.server == "web-1");
    // Tokens of service accounts are replaced every hour or so.
    fixture.server.set_token("second");
    fs::write(account.join("token"), "second")?;
    fixture.server.down();
    fixture.server.up()?;
    fixture.serve(WEB, "web", "web-2")?;
    let moved = || client.ask(Protocol::Tcp, target).is_ok_and(|it| it.server == "web-2");
    ensure!(eventually(moved), "what changes after another token came is not seen");
    ensure!(agent.stop()?.success());
    Ok(())
}

/// The API server refuses such addresses, but this one is older, or has been asked by nobody.
fn endpoints_that_cannot_be_served_are_told_of<F: TestFamily>() -> Result<()> {
    let fixture = Fixture::new::<F>(true)?;
    let _servers = fixture.cluster.servers(&["web-1", "web-2"])?;
    let topology = &fixture.cluster.topology;
    let own = WEB.of(F::FAMILY);
    let (special, what) = match F::FAMILY {
        IpFamily::V4 => (
            ["0.0.0.0", "127.0.0.1", "169.254.169.254", "224.0.0.1"],
            format!(
                "0.0.0.0 is the unspecified address, {own} is the Service's own cluster IP, \
                 127.0.0.1 is a loopback address, 169.254.169.254 is a link-local address, \
                 224.0.0.1 is a multicast address"
            ),
        ),
        IpFamily::V6 => (
            ["::", "::1", "fe80::1", "ff02::1"],
            format!(
                ":: is the unspecified address, ::1 is a loopback address, {own} is the Service's \
                 own cluster IP, fe80::1 is a link-local address, ff02::1 is a multicast address"
            ),
        ),
    };
    let mut bad = vec![Endpoint::at([own])];
    for text in special {
        bad.push(Endpoint::at([text.parse()?]));
    }
    let serve = |pods: &[&str], others: &[Endpoint]| {
        let good = pods.iter().map(|pod| Endpoint::of(topology.pod(pod)));
        fixture.apply(&web(WEB, "web").endpoints(others.iter().cloned().chain(good)))
    };
    let events = || -> Vec<Value> {
        let all = fixture.server.events().into_iter();
        all.filter(|event| event["regarding"]["name"] == "web").collect()
    };
    serve(&["web-1"], &bad)?;
    let kubeconfig = fixture.scratch.path().join("kubeconfig");
    let mut agent = AgentSpec::following(topology.node("anc-node").host(), &kubeconfig).start()?;
    let client = Client::new(topology.pod("client"));
    let target = SocketAddr::new(own, PORT);
    let are_served = |pods: &[&str]| -> Result<()> {
        for protocol in Protocol::OF_SOCKETS {
            let asks = || (0..60).map(|_| client.ask(protocol, target)).collect::<Shares>();
            let mut shares = asks();
            let _: bool = eventually(|| {
                shares = asks();
                shares.failures.is_empty() && shares.is_fair(pods)
            });
            ensure!(shares.failures.is_empty() && shares.is_fair(pods), "{protocol}: {shares}");
        }
        Ok(())
    };
    are_served(&["web-1"])?;
    ensure!(eventually(|| events().len() == 1), "{:#?}", events());
    let told = |what: &str| format!("node anc-node does not serve {what}");
    let event = &events()[0];
    ensure!(event["note"] == told(&format!("5 endpoints: {what}")), "{event:#}");
    ensure!(event["type"] == "Warning" && event["reason"] == "InvalidEndpoint", "{event:#}");
    // Other endpoints come and go: there is nothing new to be told.
    serve(&["web-1", "web-2"], &bad)?;
    are_served(&["web-1", "web-2"])?;
    ensure!(events() == [event.clone()], "{:#?}", events());
    serve(&["web-2"], &bad[..1])?;
    are_served(&["web-2"])?;
    // So soon after the first, another of its kind makes it a series, as Kubernetes has it.
    ensure!(eventually(|| events()[0]["series"]["count"] == 2), "{:#?}", events());
    let other = told(&format!("1 endpoint: {own} is the Service's own cluster IP"));
    agent.wait_for(&other, PATIENCE)?;
    ensure!(events().len() == 1, "{:#?}", events());
    ensure!(agent.stop()?.success());
    Ok(())
}
