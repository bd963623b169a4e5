// SPDX-License-Identifier: Apache-2.0

//! Two agents of one kernel serve the processes of their own nodes.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::agent::AgentSpec;
use proxy_tests::cluster::{WEB, web};
use proxy_tests::family::{DualAddress, TestFamily, V4, V6};
use proxy_tests::manifests::Manifests;
use proxy_tests::traffic::Client;

use super::rig::{NODE, OTHER_NODE, PODS, Rig, SILENCE, Way, target};

/// A Service that one of the agents knows.
const ONE_SIDED: DualAddress = DualAddress::cluster_ip(20);
/// A Service that sockets cannot be served, in both families.
const SCTP: &str = r#"{
    "apiVersion": "v1", "kind": "Service",
    "metadata": {"name": "signalling", "namespace": "default"},
    "spec": {
        "clusterIP": "10.96.0.21", "clusterIPs": ["10.96.0.21", "fd00:10:96::21"],
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
        "ports": [{"name": "sctp", "protocol": "SCTP", "port": 3868}]
    }
}"#;
/// What an agent says of it.
const SCTP_IS_NOT_SERVED: &str = "SCTP sockets of host processes are not served";

/// What a process on each node gets for the cluster IP that both agents know, and for the other.
fn serve_their_own<F: TestFamily>(rig: &Rig) -> Result<()> {
    for (node, server) in [(NODE, PODS[0]), (OTHER_NODE, PODS[3])] {
        let client = Client::new(rig.node(node));
        for way in Way::ALL {
            let answer = way.ask(&client, target::<F>(WEB));
            let answer = answer.with_context(|| format!("{way:?} on {node}"))?;
            ensure!(answer.server == server && answer.peer == target::<F>(WEB), "{answer:?}");
            let answer = way.ask(&client.patience(SILENCE), target::<F>(ONE_SIDED));
            ensure!(answer.is_ok() == (node == NODE), "{way:?} on {node}: {answer:?}");
        }
    }
    Ok(())
}

#[test]
fn each_agent_serves_the_processes_of_its_node() -> Result<()> {
    let rig = Rig::new()?;
    rig.cluster.serve_web(&PODS[..1])?;
    rig.cluster.manifests.apply(&web(ONE_SIDED, "one-sided").pods(rig.pods(&PODS[..1])))?;
    rig.cluster.manifests.write("sctp.json", SCTP)?;
    let others = Manifests::new()?;
    for node in rig.cluster.topology.nodes() {
        others.apply_node(node, None)?;
    }
    others.apply(&web(WEB, "web").pods(rig.pods(&PODS[3..])))?;
    let mut agents =
        [rig.agent()?, AgentSpec::new(rig.node(OTHER_NODE), others.directory()).start()?];
    serve_their_own::<V4>(&rig)?;
    serve_their_own::<V6>(&rig)?;
    for (agent, told) in agents.iter().zip([1, 0]) {
        let log = agent.log()?;
        let tells = |line: &&str| line.contains(SCTP_IS_NOT_SERVED);
        let lines: Vec<_> = log.lines().filter(tells).collect();
        ensure!(lines.len() == told, "{lines:?}");
        let names = |line: &&str| line.contains("default/signalling") && line.contains("3868");
        ensure!(lines.iter().all(names), "{lines:?}");
    }
    for agent in &mut agents {
        ensure!(agent.stop()?.success());
    }
    Ok(())
}
