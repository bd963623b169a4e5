// SPDX-License-Identifier: Apache-2.0

//! Health checks of load balancers through a running agent.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::eventually;
use proxy_tests::family::TestFamily;
use proxy_tests::manifests::Endpoint;
use proxy_tests::topology::{Host, NodeSpec, TopologySpec};
use proxy_tests::traffic::Client;
use serde_json::{Value, json};

use super::rig::{LOCAL, NODE, Rig};

both_families!(load_balancers_learn_of_local_endpoints);

const PORT: u16 = 30_999;
/// Longer than an answer takes.
const SHORT: Duration = Duration::from_millis(500);

/// What a load balancer sees: the status, the weight, and the count.
fn check(from: &Host, at: SocketAddr) -> Result<(u16, String, Value)> {
    let mut stream = Client::new(from).patience(SHORT).connect(at)?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    let _: usize = stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).unwrap_or_default().parse()?;
    let weight =
        head.lines().find_map(|line| line.strip_prefix("X-Load-Balancing-Endpoint-Weight: "));
    let body: Value = serde_json::from_str(body)?;
    Ok((status, weight.unwrap_or_default().to_owned(), body["localEndpoints"].clone()))
}

fn load_balancers_learn_of_local_endpoints<F: TestFamily>() -> Result<()> {
    let spec = TopologySpec::new().node(NodeSpec::bridge(NODE).pod(LOCAL, 12).pod("web-2", 13));
    let rig = Rig::of_one_node(spec)?;
    let service = |backends: &[&str]| {
        rig.service(backends)
            .field("externalTrafficPolicy", json!("Local"))
            .field("healthCheckNodePort", json!(PORT))
    };
    rig.cluster.manifests.apply(&service(&[LOCAL, "web-2"]))?;
    let mut agent = rig.start()?;
    let at = SocketAddr::new(rig.node().address(F::FAMILY), PORT);
    let becomes = |status: u16, count: u32| {
        let expected = (status, count.to_string(), json!(count));
        eventually(|| check(rig.outsider(), at).is_ok_and(|seen| seen == expected))
    };
    ensure!(becomes(200, 2), "{:?}", check(rig.outsider(), at));
    rig.cluster.manifests.apply(&service(&[LOCAL]))?;
    ensure!(becomes(200, 1), "{:?}", check(rig.outsider(), at));
    // One that terminates serves, but load balancers are to look elsewhere.
    let ending = Endpoint::of(rig.pod(LOCAL)).conditions(false, true, true);
    rig.cluster.manifests.apply(&service(&[]).endpoints([ending]))?;
    ensure!(becomes(503, 0), "{:?}", check(rig.outsider(), at));
    rig.cluster.manifests.apply(&rig.service(&[LOCAL]))?;
    let is_closed = || Client::new(rig.outsider()).patience(SHORT).connect(at).is_err();
    ensure!(eventually(is_closed), "it still answers");
    ensure!(agent.stop()?.success());
    Ok(())
}
