// SPDX-License-Identifier: Apache-2.0

//! Datagrams of one socket follow the endpoints, for clients of every kind.

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::eventually;
use proxy_tests::family::TestFamily;
use proxy_tests::median::median;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{Host, NodeSpec, TopologySpec};
use proxy_tests::traffic::{Answer, Client, Failure};

use super::rig::{Frontend, LOCAL, NODE, OTHER_NODE, REMOTE, Rig};

both_families!(
    flows_leave_an_endpoint_within_a_second,
    flows_survive_a_time_without_endpoints,
    connections_live_until_they_end,
);

/// What a flow takes to leave an endpoint.
const PROMISED: Duration = Duration::from_secs(1);
/// The same where the machine stands still meanwhile: far less than the time of a flow.
const SOON: Duration = Duration::from_secs(15);
/// For how long at least others are seen to stay.
const MEANWHILE: Duration = Duration::from_secs(1);
/// How long a client waits for an answer that may not come.
const PATIENCE: Duration = Duration::from_millis(200);
/// Between two datagrams: more often than a flow's time is noted.
const PAUSE: Duration = Duration::from_millis(20);
/// Ports of clients' sockets, which they keep: enough that both endpoints are chosen, but once in
/// a million runs.
const PORTS: Range<u16> = 47_000..47_021;

fn rig() -> Result<Rig> {
    Rig::new(
        TopologySpec::new()
            .node(NodeSpec::bridge(NODE).pod("client", 11).pod(LOCAL, 12))
            .node(NodeSpec::routed(OTHER_NODE).pod(REMOTE, 22)),
    )
}

/// A client whose datagrams all have one source port.
struct Steady<'a> {
    client: Client<'a>,
    frontend: Frontend,
}

impl<'a> Steady<'a> {
    fn new(host: &'a Host, frontend: Frontend, port: u16) -> Self {
        let client = Client::new(host).source_port(port);
        Self { client, frontend }
    }

    fn ask<F: TestFamily>(&self) -> Result<Answer, Failure> {
        self.client.patience(PATIENCE).ask(Protocol::Udp, self.frontend.target(F::FAMILY))
    }

    /// Whether it gets an answer, and of this server.
    fn is_with<F: TestFamily>(&self, server: &str) -> bool {
        is(server, &self.client.ask(Protocol::Udp, self.frontend.target(F::FAMILY)))
    }

    /// Asks until `is_right`, without a longer pause than between any two datagrams.
    fn soon<F: TestFamily>(
        &self,
        what: &str,
        is_right: impl Fn(Result<Answer, Failure>) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        while !is_right(self.ask::<F>()) {
            let late = start.elapsed() > SOON;
            ensure!(!late, "{:?}: {what} takes {:?}", self.frontend, start.elapsed());
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

fn is(server: &str, answer: &Result<Answer, Failure>) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.server == server)
}

/// The clients that packets are translated for: at a pod's device, and at the uplink.
fn clients(rig: &Rig) -> [(&Host, Frontend); 4] {
    [
        (rig.pod("client"), Frontend::ClusterIp),
        (rig.pod("client"), Frontend::NodePort),
        (rig.outsider(), Frontend::NodePort),
        (rig.outsider(), Frontend::LoadBalancer),
    ]
}

fn flows_leave_an_endpoint_within_a_second<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    let serve = |backends: &[&str]| rig.cluster.manifests.apply(&rig.service(backends));
    serve(&[REMOTE])?;
    let mut agent = rig.start()?;
    let mut took = Vec::new();
    for (host, frontend) in clients(&rig) {
        let stays = Steady::new(host, frontend, PORTS.start);
        serve(&[REMOTE])?;
        stays.soon::<F>("the first answer", |answer| is(REMOTE, &answer))?;
        serve(&[LOCAL, REMOTE])?;
        let target = frontend.target(F::FAMILY);
        let joins = || is(LOCAL, &Client::new(host).ask(Protocol::Udp, target));
        ensure!(eventually(joins), "{frontend:?}: the other endpoint does not serve");
        let mut others = PORTS.skip(1).map(|port| Steady::new(host, frontend, port));
        let moves = others.find(|client| client.is_with::<F>(LOCAL));
        let moves = moves.context("nobody is served by the other endpoint")?;
        // Who is with the endpoint that goes moves on. Who is not, hears every answer.
        for _ in 0..10 {
            ensure!(stays.is_with::<F>(REMOTE) && moves.is_with::<F>(LOCAL));
        }
        serve(&[REMOTE])?;
        let (start, mut has_moved) = (Instant::now(), None);
        while has_moved.is_none() || start.elapsed() < MEANWHILE {
            ensure!(stays.is_with::<F>(REMOTE), "{frontend:?}: another endpoint has gone");
            let elapsed = start.elapsed();
            let is_elsewhere = is(REMOTE, &moves.ask::<F>());
            ensure!(is_elsewhere || elapsed < SOON, "{frontend:?}: it stays with what has gone");
            ensure!(is_elsewhere || has_moved.is_none(), "{frontend:?}: it goes back");
            has_moved = has_moved.or(is_elsewhere.then_some(elapsed));
        }
        took.extend(has_moved);
    }
    ensure!(median(&mut took) < PROMISED, "they have left after {took:?}");
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Scaled to zero and back, under datagrams all the time: before the first endpoint, too.
fn flows_survive_a_time_without_endpoints<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    let serve = |backends: &[&str]| rig.cluster.manifests.apply(&rig.service(backends));
    serve(&[])?;
    let mut agent = rig.start()?;
    for (host, frontend) in clients(&rig) {
        let client = Steady::new(host, frontend, PORTS.start);
        for backend in [LOCAL, REMOTE, LOCAL] {
            ensure!(client.ask::<F>().is_err(), "{frontend:?}: it is served");
            serve(&[backend])?;
            client.soon::<F>("to be served", |answer| is(backend, &answer))?;
            serve(&[])?;
            client.soon::<F>("to be refused", |answer| {
                answer.is_err_and(|failure| failure.is_refusal())
            })?;
        }
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

fn connections_live_until_they_end<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    let serve = |backends: &[&str]| rig.cluster.manifests.apply(&rig.service(backends));
    serve(&[REMOTE])?;
    let mut agent = rig.start()?;
    let mut streams = Vec::new();
    for (host, frontend) in clients(&rig) {
        streams.push(Client::new(host).stay(frontend.target(F::FAMILY))?);
    }
    for backends in [&[LOCAL][..], &[]] {
        serve(backends)?;
        for (host, frontend) in clients(&rig) {
            let ask = || Client::new(host).ask(Protocol::Tcp, frontend.target(F::FAMILY));
            let has_gone =
                || ask().map_or_else(|it| it.is_refusal(), |answer| answer.server == LOCAL);
            ensure!(eventually(has_gone), "{frontend:?}: new connections go there");
        }
        for stream in &mut streams {
            ensure!(stream.server() == REMOTE);
            let _ = stream.exchange()?;
        }
    }
    ensure!(agent.stop()?.success());
    Ok(())
}
