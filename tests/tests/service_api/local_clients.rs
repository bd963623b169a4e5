// SPDX-License-Identifier: Apache-2.0

//! Whose clients count as the node's own pods, as kube-proxy is told.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::topology::{NodeSpec, TopologySpec};
use serde_json::json;

use super::rig::{Frontend, LOCAL, NODE, OTHER_NODE, REMOTE, Rig, is_served};

both_families!(each_way_to_tell_them, all_can_be_masqueraded_at_cluster_ips);

fn rig() -> Result<Rig> {
    let rig = Rig::new(
        TopologySpec::new()
            .node(NodeSpec::bridge(NODE).pod("client", 11).pod(LOCAL, 12))
            .node(NodeSpec::routed(OTHER_NODE).pod(REMOTE, 22)),
    )?;
    let service = rig.service(&[LOCAL, REMOTE]).field("externalTrafficPolicy", json!("Local"));
    rig.cluster.manifests.apply(&service)?;
    Ok(rig)
}

/// With these arguments, the node's pod is one of its own, or not.
fn each_way_to_tell_them<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    let pod = rig.pod("client");
    let (own, node) = (pod.address(F::FAMILY), rig.node().address(F::FAMILY));
    for (arguments, is_local) in [
        (&["--cluster-cidr=10.244.0.0/16,fd00:10:244::/48"][..], true),
        (&["--cluster-cidr=10.99.0.0/16,fd00:99::/48"], false),
        (&["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0"], true),
        (&["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni1"], false),
        (&["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth"], true),
        (&["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=cali"], false),
    ] {
        let mut agent = rig.agent();
        for argument in arguments {
            agent = agent.argument(*argument);
        }
        let mut agent = agent.start()?;
        let (at_vip, at_node_port) = if is_local {
            (vec![(LOCAL, own), (REMOTE, own)], vec![(LOCAL, own), (REMOTE, own)])
        } else {
            (vec![(LOCAL, own), (REMOTE, node)], vec![(LOCAL, own)])
        };
        for (frontend, expected) in
            [(Frontend::ClusterIp, at_vip), (Frontend::NodePort, at_node_port)]
        {
            is_served(pod, frontend.target(F::FAMILY), &expected)
                .with_context(|| format!("{arguments:?} {frontend:?}"))?;
        }
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

fn all_can_be_masqueraded_at_cluster_ips<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    let pod = rig.pod("client");
    let (own, node) = (pod.address(F::FAMILY), rig.node().address(F::FAMILY));
    let mut agent = rig.agent().argument("--masquerade-all").start()?;
    let target = |frontend: Frontend| frontend.target(F::FAMILY);
    is_served(pod, target(Frontend::ClusterIp), &[(LOCAL, own), (REMOTE, node)])?;
    is_served(pod, target(Frontend::NodePort), &[(LOCAL, own), (REMOTE, own)])?;
    ensure!(agent.stop()?.success());
    Ok(())
}
