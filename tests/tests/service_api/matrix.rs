// SPDX-License-Identifier: Apache-2.0

//! Client by frontend by policy: who answers, and as whom the client is seen. Where kube-proxy
//! masquerades what comes back through the node anyway, the client's address is seen
//! (docs/conformance.md).

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{BetweenNodes, Host, NodeSpec, TopologySpec};
use proxy_tests::traffic::Client;
use serde_json::json;

use super::rig::{Frontend, LOCAL, NODE, OTHER_NODE, REMOTE, Rig, ask, is_served};

/// Longer than an answer takes, and shorter than a test should wait for none.
const SHORT: Duration = Duration::from_millis(300);

both_families!(
    every_cell_behind_bridges,
    every_cell_on_routed_nodes,
    every_cell_over_a_tunnel,
    without_local_endpoints_local_policies_drop,
    without_endpoints_everything_is_refused,
);

fn nodes(bridges: bool) -> TopologySpec {
    let node = |name: &str| if bridges { NodeSpec::bridge(name) } else { NodeSpec::routed(name) };
    TopologySpec::new()
        .node(node(NODE).pod("client", 11).pod(LOCAL, 12))
        .node(node(OTHER_NODE).pod(REMOTE, 22))
}

/// Whom a backend sees.
#[derive(Clone, Copy)]
enum Seen {
    Client,
    /// The node, as it is known on the way there.
    Node,
}

/// One cell, for both backends.
fn cell<F: TestFamily>(
    from: &Host,
    frontend: Frontend,
    expected: &[(&str, Seen)],
    node: IpAddr,
) -> Result<()> {
    let client = from.address(F::FAMILY);
    let expected: Vec<_> = expected
        .iter()
        .map(|(server, seen)| (*server, if matches!(seen, Seen::Client) { client } else { node }))
        .collect();
    is_served(from, frontend.target(F::FAMILY), &expected).with_context(|| format!("{frontend:?}"))
}

/// Every cell of each pair of policies.
fn every_cell<F: TestFamily>(
    spec: TopologySpec,
    towards_others: impl Fn(&Rig) -> IpAddr,
) -> Result<()> {
    let rig = Rig::new(spec)?;
    let mut agent = rig.start()?;
    let node = towards_others(&rig);
    let (pod, outsider) = (rig.pod("client"), rig.outsider());
    let (local, remote) = ((LOCAL, Seen::Client), (REMOTE, Seen::Client));
    let masqueraded = (REMOTE, Seen::Node);
    for (internal, external) in
        [("Cluster", "Cluster"), ("Cluster", "Local"), ("Local", "Cluster"), ("Local", "Local")]
    {
        let service = rig
            .service(&[LOCAL, REMOTE])
            .field("internalTrafficPolicy", json!(internal))
            .field("externalTrafficPolicy", json!(external));
        rig.cluster.manifests.apply(&service)?;
        let policies = format!("internal {internal}, external {external}");
        for frontend in Frontend::ALL {
            let is_internal = frontend == Frontend::ClusterIp;
            let is_local_only =
                is_internal && internal == "Local" || !is_internal && external == "Local";
            // The node's own pods are taken round the external policy.
            let for_pod =
                if is_internal && internal == "Local" { vec![local] } else { vec![local, remote] };
            cell::<F>(pod, frontend, &for_pod, node).with_context(|| policies.clone())?;
            let for_outsider = if is_local_only { vec![local] } else { vec![local, masqueraded] };
            cell::<F>(outsider, frontend, &for_outsider, node).with_context(|| policies.clone())?;
            // And so are its processes; whom the backends see is the kernel's choice.
            let target = frontend.target(F::FAMILY);
            for protocol in Protocol::OF_SOCKETS {
                let seen = ask(rig.node(), protocol, target)?;
                let servers: Vec<_> = seen.keys().map(String::as_str).collect();
                let expected: Vec<_> = for_pod.iter().map(|(server, _)| *server).collect();
                ensure!(
                    servers == expected,
                    "{protocol} from the node to {target}: {seen:?}, {policies}"
                );
            }
        }
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

fn every_cell_behind_bridges<F: TestFamily>() -> Result<()> {
    every_cell::<F>(nodes(true), |rig| rig.node().address(F::FAMILY))
}

fn every_cell_on_routed_nodes<F: TestFamily>() -> Result<()> {
    every_cell::<F>(nodes(false), |rig| rig.node().address(F::FAMILY))
}

fn every_cell_over_a_tunnel<F: TestFamily>() -> Result<()> {
    let spec = nodes(true).between_nodes(BetweenNodes::Vxlan);
    // The tunnel's own address there.
    every_cell::<F>(spec, |_| F::pod(1, 0))
}

/// The backends are elsewhere: a Local policy drops what it holds for, and refuses nothing.
fn without_local_endpoints_local_policies_drop<F: TestFamily>() -> Result<()> {
    let rig = Rig::new(nodes(true))?;
    let service = rig.service(&[REMOTE]).field("externalTrafficPolicy", json!("Local"));
    rig.cluster.manifests.apply(&service)?;
    let mut agent = rig.start()?;
    for frontend in [Frontend::NodePort, Frontend::LoadBalancer, Frontend::ExternalIp] {
        let target = frontend.target(F::FAMILY);
        for protocol in Protocol::OF_SOCKETS {
            let outsider = Client::new(rig.outsider()).patience(SHORT);
            let failure = outsider.ask(protocol, target).err().context("it is served")?;
            ensure!(failure.is_timeout(), "{protocol} {frontend:?}: {failure}");
            let seen = ask(rig.pod("client"), protocol, target)?;
            ensure!(seen.keys().eq([REMOTE]), "{seen:?}");
        }
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

fn without_endpoints_everything_is_refused<F: TestFamily>() -> Result<()> {
    let rig = Rig::new(nodes(true))?;
    rig.under_each_policy(&rig.service(&[]), |_| {
        for from in [rig.outsider(), rig.pod("client"), rig.node()] {
            for frontend in Frontend::ALL {
                for protocol in Protocol::OF_SOCKETS {
                    let failure = Client::new(from).ask(protocol, frontend.target(F::FAMILY)).err();
                    let failure = failure.context("it is served")?;
                    let name = from.name();
                    ensure!(failure.is_refusal(), "{name} {protocol} {frontend:?}: {failure}");
                }
            }
        }
        Ok(())
    })
}
