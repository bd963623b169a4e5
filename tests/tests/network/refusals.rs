// SPDX-License-Identifier: Apache-2.0

//! What is refused is refused at once.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use proxy_tests::cluster::{Cluster, PORT, WEB, eventually, web};
use proxy_tests::{
    agent::Agent,
    both_families,
    family::{DualAddress, TestFamily},
    manifests::Endpoint,
    protocol::Protocol,
    topology::NodeSpec,
    traffic::{Client, is_refused_at_once},
};
use serde_json::json;

both_families!(
    services_without_endpoints_refuse,
    wrong_ports_refuse,
    local_policies_without_local_endpoints_drop,
);

fn refuses<F: TestFamily>(cluster: &Cluster, port: u16) -> Result<()> {
    let target = SocketAddr::new(WEB.of(F::FAMILY), port);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let client = Client::new(cluster.topology.pod("client"));
        let _ = is_refused_at_once(|| client.ask(protocol, target)).context(protocol)?;
    }
    Ok(())
}

fn services_without_endpoints_refuse<F: TestFamily>() -> Result<()> {
    for node in [NodeSpec::bridge("anc-node"), NodeSpec::routed("anc-node")] {
        let cluster = Cluster::of(node)?;
        cluster.serve_web(&[])?;
        let mut agents = cluster.agents()?;
        refuses::<F>(&cluster, PORT)?;
        let told = |agent: &Agent<'_>| {
            agent.log().is_ok_and(|log| {
                log.contains(&format!("to {} port {PORT}: reject-no-endpoints", WEB.of(F::FAMILY)))
            })
        };
        ensure!(eventually(|| told(&agents[0])), "the kernel's side does not say so in the log");
        ensure!(agents.remove(0).stop()?.success());
    }
    Ok(())
}

fn wrong_ports_refuse<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    let mut agents = cluster.agents()?;
    refuses::<F>(&cluster, PORT + 1)?;
    ensure!(agents.remove(0).stop()?.success());
    Ok(())
}

fn local_policies_without_local_endpoints_drop<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    let far = Endpoint::at([DualAddress::pod(9, 9).v4.into(), DualAddress::pod(9, 9).v6.into()])
        .field("nodeName", json!("far-node"));
    let service = web(WEB, "web").field("internalTrafficPolicy", json!("Local")).endpoints([far]);
    cluster.manifests.apply(&service)?;
    let mut agents = cluster.agents()?;
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    let client = Client::new(cluster.topology.pod("client")).patience(Duration::from_millis(300));
    match client.ask(Protocol::Tcp, target) {
        Ok(answer) => bail!("{} answered", answer.server),
        Err(failure) => ensure!(failure.is_timeout(), "{failure}"),
    }
    ensure!(agents.remove(0).stop()?.success());
    Ok(())
}
