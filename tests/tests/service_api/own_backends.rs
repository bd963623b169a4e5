// SPDX-License-Identifier: Apache-2.0

//! Pods that reach themselves by a Service of which they are the only backend.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{NodeSpec, TopologySpec};
use proxy_tests::traffic::Client;

use super::rig::{Frontend, LOCAL, NODE, Rig};

both_families!(
    pods_behind_a_bridge_reach_themselves,
    pods_behind_a_bridge_with_netfilter_reach_themselves,
    routed_pods_reach_themselves,
);

/// By each frontend, under each policy, and not seen as itself: it would answer itself directly.
fn reaches_itself<F: TestFamily>(node: NodeSpec) -> Result<()> {
    let rig = Rig::of_one_node(TopologySpec::new().node(node.pod(LOCAL, 12)))?;
    let pod = rig.pod(LOCAL);
    let own = pod.address(F::FAMILY);
    rig.under_each_policy(&rig.service(&[LOCAL]), |_| {
        for frontend in Frontend::ALL {
            let target = frontend.target(F::FAMILY);
            let what = || format!("{frontend:?}");
            for protocol in Protocol::OF_SOCKETS {
                let answer = Client::new(pod).ask(protocol, target);
                let answer = answer.with_context(|| format!("{protocol} by {}", what()))?;
                let is_right =
                    answer.server == LOCAL && answer.peer == target && answer.source.ip() != own;
                ensure!(is_right, "{protocol} by {}: {answer:?}", what());
            }
            let mut stream = Client::new(pod).stay(target)?;
            for _ in 0..100 {
                let _ = stream.exchange().with_context(what)?;
            }
        }
        Ok(())
    })
}

fn pods_behind_a_bridge_reach_themselves<F: TestFamily>() -> Result<()> {
    reaches_itself::<F>(NodeSpec::bridge(NODE))
}

fn pods_behind_a_bridge_with_netfilter_reach_themselves<F: TestFamily>() -> Result<()> {
    reaches_itself::<F>(NodeSpec::bridge_with_netfilter(NODE))
}

fn routed_pods_reach_themselves<F: TestFamily>() -> Result<()> {
    reaches_itself::<F>(NodeSpec::routed(NODE))
}
