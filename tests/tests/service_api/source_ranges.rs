// SPDX-License-Identifier: Apache-2.0

//! Source ranges through a running agent, for each kind of client.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::eventually;
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{Host, NodeSpec, TopologySpec};
use proxy_tests::traffic::Client;
use serde_json::json;

use super::rig::{Frontend, LOCAL, NODE, Rig};

both_families!(ranges_hold_at_load_balancers_only, other_families_ranges_do_not_count);

const SHORT: Duration = Duration::from_millis(300);

/// Whether a client is served.
fn is_open(from: &Host, protocol: Protocol, to: SocketAddr) -> Result<()> {
    Ok(Client::new(from).ask(protocol, to).map(drop)?)
}

/// The same where it may not be: then it must not hear of it (a process of the node's own does).
fn is_served(from: &Host, protocol: Protocol, to: SocketAddr) -> Result<bool> {
    match Client::new(from).patience(SHORT).ask(protocol, to) {
        Ok(_) => Ok(true),
        Err(failure) => {
            ensure!(failure.is_timeout() || failure.is_no_way(), "{}: {failure}", from.name());
            Ok(false)
        }
    }
}

fn ranges_hold_at_load_balancers_only<F: TestFamily>() -> Result<()> {
    let spec = TopologySpec::new().node(NodeSpec::bridge(NODE).pod("client", 11).pod(LOCAL, 12));
    let rig = Rig::of_one_node(spec)?;
    let (pod, outsider, node) = (rig.pod("client"), rig.outsider(), rig.node());
    let of =
        |host: &Host| format!("{}/{}", host.address(F::FAMILY), F::FAMILY.host_prefix_length());
    let mut agent = None;
    for (ranges, served) in [
        (vec![of(outsider)], [false, true, false]),
        (vec![of(pod)], [true, false, false]),
        (vec![format!(" {} ", of(node))], [false, false, true]),
        (vec![of(pod), of(outsider), of(node)], [true, true, true]),
        (vec![], [true, true, true]),
    ] {
        let service = rig.service(&[LOCAL]).field("loadBalancerSourceRanges", json!(ranges));
        rig.cluster.manifests.apply(&service)?;
        if agent.is_none() {
            agent = Some(rig.start()?);
        }
        let target = Frontend::LoadBalancer.target(F::FAMILY);
        for protocol in Protocol::OF_SOCKETS {
            for (from, served) in [pod, outsider, node].into_iter().zip(served) {
                let is_right =
                    || is_served(from, protocol, target).is_ok_and(|is_served| is_served == served);
                ensure!(eventually(is_right), "{protocol} from {}, {ranges:?}", from.name());
                for open in [Frontend::ClusterIp, Frontend::NodePort, Frontend::ExternalIp] {
                    is_open(from, protocol, open.target(F::FAMILY))
                        .with_context(|| format!("{protocol} from {} to {open:?}", from.name()))?;
                }
            }
        }
    }
    ensure!(agent.is_some_and(|mut agent| agent.stop().is_ok_and(|status| status.success())));
    Ok(())
}

fn other_families_ranges_do_not_count<F: TestFamily>() -> Result<()> {
    let spec = TopologySpec::new().node(NodeSpec::bridge(NODE).pod("client", 11).pod(LOCAL, 12));
    let rig = Rig::of_one_node(spec)?;
    let other =
        if rig.node().address(F::FAMILY).is_ipv4() { "2001:db8::/32" } else { "192.0.2.0/24" };
    let service = rig.service(&[LOCAL]).field("loadBalancerSourceRanges", json!([other]));
    rig.cluster.manifests.apply(&service)?;
    let mut agent = rig.start()?;
    let target = Frontend::LoadBalancer.target(F::FAMILY);
    for from in [rig.pod("client"), rig.outsider(), rig.node()] {
        is_open(from, Protocol::Tcp, target).with_context(|| from.name().to_owned())?;
    }
    ensure!(agent.stop()?.success());
    Ok(())
}
