// SPDX-License-Identifier: Apache-2.0

//! Whose clients count as the node's own pods, as kube-proxy is told.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::manifests::node_object;
use proxy_tests::topology::{NodeSpec, TopologySpec, pod_cidr};
use serde_json::json;

use super::rig::{Frontend, LOCAL, NODE, OTHER_NODE, REMOTE, Rig, is_served};

both_families!(
    each_way_to_tell_them,
    the_nodes_own_range_may_come_later_and_change,
    all_can_be_masqueraded_at_cluster_ips,
);

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

/// The node's pod is one of its own, or not; soon, if that has just changed.
fn is_told<F: TestFamily>(rig: &Rig, is_local: bool) -> Result<()> {
    let pod = rig.pod("client");
    let (own, node) = (pod.address(F::FAMILY), rig.node().address(F::FAMILY));
    let (at_vip, at_node_port) = if is_local {
        (vec![(LOCAL, own), (REMOTE, own)], vec![(LOCAL, own), (REMOTE, own)])
    } else {
        (vec![(LOCAL, own), (REMOTE, node)], vec![(LOCAL, own)])
    };
    for (frontend, expected) in [(Frontend::ClusterIp, at_vip), (Frontend::NodePort, at_node_port)]
    {
        is_served(pod, frontend.target(F::FAMILY), &expected)
            .with_context(|| format!("{frontend:?}"))?;
    }
    Ok(())
}

fn each_way_to_tell_them<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    for (arguments, is_local) in [
        (&["--cluster-cidr=10.244.0.0/16,fd00:10:244::/48"][..], true),
        (&["--cluster-cidr=10.99.0.0/16,fd00:99::/48"], false),
        (&["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0"], true),
        (&["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni1"], false),
        (&["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=cni"], true),
        // Its ports are not what packets come by when they are routed.
        (&["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth"], false),
        (&["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=cali"], false),
    ] {
        let mut agent = rig.agent();
        for argument in arguments {
            agent = agent.argument(*argument);
        }
        let mut agent = agent.start()?;
        is_told::<F>(&rig, is_local).with_context(|| format!("{arguments:?}"))?;
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

/// A Node begins without ranges, and is given one of each family.
fn the_nodes_own_range_may_come_later_and_change<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    let node = rig.cluster.topology.node(NODE);
    let own = IpFamily::ALL.map(|family| pod_cidr(node.number(), family).to_string());
    let other = ["10.99.1.0/24", "fd00:99:1::/64"].map(ToOwned::to_owned);
    let ranges = |ranges: &[String]| {
        let mut object = node_object(node, None);
        object["spec"] = json!({ "podCIDR": ranges.first(), "podCIDRs": ranges });
        rig.cluster.manifests.write_list(NODE, &[object])
    };
    ranges(&[])?;
    let mut agent = rig.agent().argument("--detect-local-mode=NodeCIDR").start()?;
    is_told::<F>(&rig, true).context("without a range devices tell")?;
    for (known, is_local) in [(&other, false), (&own, true), (&other, false)] {
        ranges(known)?;
        is_told::<F>(&rig, is_local).with_context(|| format!("{known:?}"))?;
    }
    ensure!(agent.stop()?.success());
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
