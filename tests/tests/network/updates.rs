// SPDX-License-Identifier: Apache-2.0

//! Changes reach new flows at once, and leave others alone.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use proxy_tests::cluster::{Cluster, PORT, WEB, eventually};
use proxy_tests::{
    both_families, family::TestFamily, protocol::Protocol, topology::NodeSpec, traffic::Client,
};

both_families!(
    scaling_under_traffic_loses_nothing,
    datagrams_leave_a_removed_backend,
    a_deleted_service_is_gone,
    a_bad_object_stops_nobody,
    manifests_that_go_as_a_whole_are_missed,
);

fn target<F: TestFamily>() -> SocketAddr {
    SocketAddr::new(WEB.of(F::FAMILY), PORT)
}

fn scaling_under_traffic_loses_nothing<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    let mut agents = cluster.agents()?;
    let _servers = cluster.servers(&["web-1", "web-2", "web-3"])?;
    let client = Client::new(cluster.topology.pod("client"));
    let mut stream = client.stay(target::<F>())?;
    for pods in [&["web-1", "web-2"][..], &["web-2", "web-3"], &["web-3"], &["web-1", "web-2"]] {
        cluster.serve_web(pods)?;
        ensure!(
            eventually(|| client.ask_often(Protocol::Tcp, target::<F>(), 100).is_fair(pods)),
            "{pods:?} do not serve"
        );
        let shares = client.ask_often(Protocol::Udp, target::<F>(), 100);
        ensure!(shares.is_fair(pods), "{pods:?}: {shares}");
        // The connection stays with the backend that it has, though that serves no more.
        let _ = stream.exchange()?;
    }
    ensure!(stream.server() == "web-1");
    ensure!(agents.remove(0).stop()?.success());
    Ok(())
}

fn datagrams_leave_a_removed_backend<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::routed("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    let mut agents = cluster.agents()?;
    let _servers = cluster.servers(&["web-1", "web-2"])?;
    let client = Client::new(cluster.topology.pod("client")).source_port(47_000);
    for _ in 0..3 {
        ensure!(client.ask(Protocol::Udp, target::<F>())?.server == "web-1");
    }
    // More backends do not move the flow; the loss of its own does.
    cluster.serve_web(&["web-1", "web-2"])?;
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..10 {
        ensure!(client.ask(Protocol::Udp, target::<F>())?.server == "web-1");
    }
    cluster.serve_web(&["web-2"])?;
    ensure!(
        eventually(|| client
            .ask(Protocol::Udp, target::<F>())
            .is_ok_and(|answer| answer.server == "web-2")),
        "the flow stays with its backend"
    );
    ensure!(agents.remove(0).stop()?.success());
    Ok(())
}

fn a_deleted_service_is_gone<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    let mut agents = cluster.agents()?;
    let _servers = cluster.servers(&["web-1"])?;
    let client = Client::new(cluster.topology.pod("client"));
    let _ = client.ask(Protocol::Tcp, target::<F>())?;
    let client = client.patience(Duration::from_millis(200));
    cluster.manifests.remove("web")?;
    ensure!(eventually(|| client.ask(Protocol::Tcp, target::<F>()).is_err()), "it is still there");
    cluster.serve_web(&["web-1"])?;
    ensure!(eventually(|| client.ask(Protocol::Tcp, target::<F>()).is_ok()), "it does not return");
    ensure!(agents.remove(0).stop()?.success());
    Ok(())
}

fn a_bad_object_stops_nobody<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.manifests.write("broken.yaml", "kind: Service\nspec: [\n")?;
    cluster.manifests.write(
        "odd.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: odd, namespace: default}\n\
         spec: {clusterIP: not-an-address, clusterIPs: [not-an-address], ports: [{port: 80}]}\n",
    )?;
    cluster.serve_web(&["web-1"])?;
    let mut agents = cluster.agents()?;
    let _servers = cluster.servers(&["web-1"])?;
    let _ = Client::new(cluster.topology.pod("client")).ask(Protocol::Tcp, target::<F>())?;
    let log = agents[0].log()?;
    ensure!(log.contains("broken.yaml") && log.contains("odd"), "not reported: {log}");
    ensure!(agents.remove(0).stop()?.success());
    Ok(())
}

fn manifests_that_go_as_a_whole_are_missed<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    let mut agents = cluster.agents()?;
    let _servers = cluster.servers(&["web-1", "web-2"])?;
    let says = |text: &str| eventually(|| agents[0].log().is_ok_and(|log| log.contains(text)));
    let directory = cluster.manifests.directory();
    let aside = directory.with_file_name("aside");
    std::fs::rename(directory, &aside)?;
    ensure!(says("the directory of manifests has gone"), "it does not say so");
    let client = Client::new(cluster.topology.pod("client"));
    ensure!(client.ask(Protocol::Tcp, target::<F>())?.server == "web-1", "the objects stay");
    std::fs::rename(&aside, directory)?;
    cluster.serve_web(&["web-2"])?;
    ensure!(says("the directory is there again"), "it does not say so");
    let moved = || client.ask(Protocol::Tcp, target::<F>()).is_ok_and(|it| it.server == "web-2");
    ensure!(eventually(moved), "what is written then is not seen");
    ensure!(agents.remove(0).stop()?.success());
    Ok(())
}
