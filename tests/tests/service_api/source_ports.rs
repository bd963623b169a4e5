// SPDX-License-Identifier: Apache-2.0

//! Ports of masqueraded flows that others have too: the agent warns of them.

use anyhow::{Result, ensure};
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::cluster::{PATIENCE, PORT, TARGET, eventually};
use proxy_tests::family::TestFamily;
use proxy_tests::manifests::Service;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{NodeSpec, TopologySpec};

use super::rig::{LOCAL, NODE, Rig};

both_families!(overlaps_are_warned_of);

const OF_NODE_PORTS: &str = "node ports of a Service are in --snat-port-range, whose ports \
                             masqueraded flows have: packets of the one may be taken for the \
                             other's; give another range, or the Service other node ports";

/// Lines of the log that say so, of Services with their ports.
fn told_of(agent: &Agent<'_>) -> Result<Vec<String>> {
    let log = agent.log()?;
    let lines = log.lines().filter(|line| line.contains("node ports of a Service are in"));
    let fields = lines.map(|line| {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let field = |name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
        Ok(format!("{} {} {}", field("service"), field("ports"), field("range")))
    });
    fields.collect()
}

fn overlaps_are_warned_of<F: TestFamily>() -> Result<()> {
    let spec = TopologySpec::new().node(NodeSpec::bridge(NODE).pod(LOCAL, 12));
    let rig = Rig::of_one_node(spec)?;
    let service = |name: &str, host, node_port| {
        let service = Service::new(name, [F::cluster_ip(host)]);
        service.port("http", Protocol::Tcp, PORT, TARGET).node_port(node_port)
    };
    for (name, host, node_port) in [("fine", 11, 30_011), ("in", 12, 61_012)] {
        rig.cluster.manifests.apply(&service(name, host, node_port))?;
    }
    // With the settings of a new host there is nothing to be said of sockets.
    let mut agent = rig.start()?;
    agent.wait_for(OF_NODE_PORTS, PATIENCE)?;
    ensure!(!agent.log()?.contains("ip_local_port_range"), "{}", agent.log()?);
    ensure!(told_of(&agent)? == ["anc/in 61012 61000-65535"], "{:?}", told_of(&agent)?);
    // A Service that comes later, and one that has been told of.
    rig.cluster.manifests.apply(&service("in", 12, 61_012).label("changed", "yes"))?;
    rig.cluster.manifests.apply(&service("late", 13, 65_535))?;
    let both = ["anc/in 61012 61000-65535", "anc/late 65535 61000-65535"];
    let are_told = || told_of(&agent).is_ok_and(|told| told == both);
    ensure!(eventually(are_told), "{:?}", told_of(&agent)?);
    ensure!(agent.stop()?.success());

    let node = rig.node().namespace();
    node.sysctl([
        ("ipv4/ip_local_port_range", "1024 65535"),
        ("ipv4/ip_local_reserved_ports", "8080,63000-65535"),
    ])?;
    agent.start()?;
    let sentence = "--snat-port-range is 61000-65535, and net/ipv4/ip_local_port_range 1024-65535: \
                    sockets of the node may get the ports 61000-62999, which masqueraded flows \
                    have, and answers to the one may be taken for the other's; give another range, \
                    or reserve these ports with `sysctl -w \
                    net/ipv4/ip_local_reserved_ports=8080,63000-65535,61000-62999`.";
    agent.wait_for(sentence, PATIENCE)?;
    ensure!(agent.stop()?.success());
    // What it says helps.
    node.sysctl([("ipv4/ip_local_reserved_ports", "8080,63000-65535,61000-62999")])?;
    agent.start()?;
    ensure!(!agent.log()?.contains("ip_local_port_range"), "{}", agent.log()?);
    ensure!(agent.stop()?.success());
    Ok(())
}
