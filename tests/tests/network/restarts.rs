// SPDX-License-Identifier: Apache-2.0

//! An agent that was killed, and one that is not alone.

use std::net::SocketAddr;
use std::time::Duration;

use super::lifecycle::binary;
use anyhow::{Context as _, Result, ensure};
use proxy_tests::agent::cgroup_root;
use proxy_tests::both_families;
use proxy_tests::cluster::{Cluster, PORT, WEB, web};
use proxy_tests::family::{DualAddress, TestFamily};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::NodeSpec;
use proxy_tests::traffic::Client;

both_families!(a_killed_agent_leaves_nothing_stale);

/// A Service that goes while no agent runs.
const OLD: DualAddress = DualAddress::cluster_ip(11);
/// One that comes meanwhile.
const NEW: DualAddress = DualAddress::cluster_ip(12);

fn a_killed_agent_leaves_nothing_stale<F: TestFamily>() -> Result<()> {
    for attach in ["--attach=tcx", "--attach=clsact"] {
        let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
        let pod = |name| cluster.topology.pod(name);
        let _servers = cluster.servers(&["web-1", "web-2", "web-3"])?;
        cluster.manifests.apply(&web(OLD, "old").pods([pod("web-2")]))?;
        cluster.serve_web(&["web-1"])?;
        let mut agent = cluster.agent("anc-node").argument(attach).start()?;
        let client = Client::new(pod("client")).patience(Duration::from_millis(300));
        let ask = |address: DualAddress, protocol| {
            client.ask(protocol, SocketAddr::new(address.of(F::FAMILY), PORT))
        };
        ensure!(ask(OLD, Protocol::Tcp)?.server == "web-2", "{attach}");
        agent.kill();
        cluster.manifests.remove("old")?;
        cluster.manifests.apply(&web(NEW, "new").pods([pod("web-3")]))?;
        agent.start()?;
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            ensure!(ask(WEB, protocol)?.server == "web-1", "{attach}");
            ensure!(ask(NEW, protocol)?.server == "web-3", "{attach}");
            let old = ask(OLD, protocol);
            ensure!(old.is_err(), "{attach}: the Service that is gone leads to {old:?}");
        }
        let services = agent.list("services")?.to_string();
        ensure!(services.contains("/new:tcp") && services.contains("/web:tcp"), "{services}");
        ensure!(!services.contains("/old:"), "{services}");
        let pins = agent.pin_root().to_owned();
        ensure!(agent.stop()?.success() && !pins.exists());
    }
    Ok(())
}

#[test]
fn a_second_agent_says_that_there_is_one() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    let mut agent = cluster.agent("anc-node").start()?;
    let node = cluster.topology.node("anc-node").host().namespace();
    let mut second = node.command(binary()?);
    let _ = second.args(["run", "--log-level=error", "--hostname-override=anc-node"]);
    let _ = second.arg("--manifests").arg(cluster.manifests.directory());
    let _ = second.arg("--pin-root").arg(agent.pin_root()).args(cgroup_root(node)?);
    let output = node.run(|| second.output().context("starting the second agent"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = format!(
        "sixfour: another sixfour is running with the pin root {}: stop it, or name another \
         --pin-root\n",
        agent.pin_root().display()
    );
    ensure!(output.status.code() == Some(1) && said == expected, "{said}");
    // The first has not been disturbed.
    ensure!(agent.list("services")?.to_string().contains("/web:tcp"));
    ensure!(agent.stop()?.success());
    Ok(())
}
