// SPDX-License-Identifier: Apache-2.0

//! What an agent says of itself by HTTP: to load balancers, probes and tools.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::{Cluster, eventually};
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::manifests::node_object;
use proxy_tests::topology::{NodeSpec, TopologySpec};
use proxy_tests::traffic::Client;
use serde_json::{Value, json};

both_families!(load_balancers_learn_of_the_node, tools_ask_at_a_loopback_address);

const NODE: &str = "anc-node";
const OUTSIDER: &str = "outsider";
const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;
/// Longer than an answer takes.
const PATIENCE: Duration = Duration::from_secs(5);

fn cluster() -> Result<Cluster> {
    let spec =
        TopologySpec::new().node(NodeSpec::bridge(NODE).pod("web-1", 11)).outsider(OUTSIDER, 9);
    let cluster = Cluster::new(&spec)?;
    cluster.serve_web(&["web-1"])?;
    Ok(cluster)
}

/// Of a Node that is well, is to be deleted, is well again, and has gone.
fn load_balancers_learn_of_the_node<F: TestFamily>() -> Result<()> {
    let cluster = cluster()?;
    let mut agent = cluster.agent(NODE).start()?;
    let outsider = Client::new(cluster.topology.outsider(OUTSIDER)).patience(PATIENCE);
    let node = cluster.topology.node(NODE);
    let at = SocketAddr::new(node.host().address(F::FAMILY), HEALTHZ_PORT);
    // The status, and whether the node is eligible.
    let seen = |path: &str| -> Result<(u16, Value, Value)> {
        let probed = outsider.probe(at, path)?;
        ensure!(probed.header("Content-Type") == Some("application/json"), "{probed:?}");
        let body: Value = serde_json::from_str(&probed.body)?;
        Ok((probed.status, body["nodeEligible"].clone(), body["healthy"].clone()))
    };
    let well = (200, json!(true), json!(true));
    let leaving = (503, json!(false), json!(true));
    let becomes = |expected: &(u16, Value, Value)| {
        let is = eventually(|| seen("/healthz").is_ok_and(|seen| seen == *expected));
        ensure!(is, "{:?}, not {expected:?}", seen("/healthz"));
        // The proxy is well whatever becomes of the Node.
        ensure!(seen("/livez")? == (200, Value::Null, json!(true)));
        Ok(())
    };
    becomes(&well)?;
    let body: Value = serde_json::from_str(&outsider.probe(at, "/livez")?.body)?;
    for family in IpFamily::ALL {
        ensure!(body["status"][family.name()]["healthy"] == true, "{body}");
    }
    let mut object = node_object(node, None);
    let taint = json!({ "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule" });
    object["spec"]["taints"] = json!([taint]);
    let write = |object: &Value| cluster.manifests.write_list(NODE, std::slice::from_ref(object));
    write(&object)?;
    becomes(&leaving)?;
    object["spec"]["taints"] = json!([{ "key": "other", "effect": "NoSchedule" }]);
    write(&object)?;
    becomes(&well)?;
    object["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:40:43Z");
    write(&object)?;
    becomes(&leaving)?;
    cluster.manifests.apply_node(node, None)?;
    becomes(&well)?;
    cluster.manifests.remove(NODE)?;
    becomes(&leaving)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn tools_ask_at_a_loopback_address<F: TestFamily>() -> Result<()> {
    let cluster = cluster()?;
    let loopback: IpAddr = match F::FAMILY {
        IpFamily::V4 => Ipv4Addr::LOCALHOST.into(),
        IpFamily::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let agent = cluster.agent(NODE).argument(format!("--metrics-bind-address={loopback}"));
    let mut agent = agent.argument("--cluster-cidr=10.244.0.0/16,fd00:10:244::/56").start()?;
    let at = SocketAddr::new(loopback, METRICS_PORT);
    let node = cluster.topology.node(NODE).host();
    let ask = |path: &str| Client::new(node).patience(PATIENCE).probe(at, path);
    ensure!(ask("/healthz")?.body == "ok");
    ensure!(ask("/proxyMode")?.body == "sixfour");
    let configz: Value = serde_json::from_str(&ask("/configz")?.body)?;
    let configuration = &configz["kubeproxy.config.k8s.io"];
    ensure!(configuration["clusterCIDR"] == "10.244.0.0/16,fd00:10:244::/56", "{configz}");
    ensure!(configuration["metricsBindAddress"] == at.to_string(), "{configz}");
    let nothing = ask("/nothing")?;
    ensure!((nothing.status, nothing.body.as_str()) == (404, "404 page not found\n"));
    let outside = SocketAddr::new(node.address(F::FAMILY), METRICS_PORT);
    let outsider = Client::new(cluster.topology.outsider(OUTSIDER)).patience(PATIENCE);
    ensure!(outsider.probe(outside, "/configz").is_err(), "it answers outside");
    ensure!(agent.stop()?.success());
    Ok(())
}
