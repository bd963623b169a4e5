// SPDX-License-Identifier: Apache-2.0

//! Session affinity through a running agent, for each kind of client.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::eventually;
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{NodeSpec, TopologySpec};
use serde_json::json;

use super::rig::{Frontend, LOCAL, NODE, OTHER_NODE, REMOTE, Rig, ask};

both_families!(clients_stay_with_their_backend_until_it_goes, affinity_can_be_switched);

fn nodes() -> TopologySpec {
    TopologySpec::new()
        .node(NodeSpec::bridge(NODE).pod("client", 11).pod(LOCAL, 12))
        .node(NodeSpec::routed(OTHER_NODE).pod(REMOTE, 22))
}

fn clients_stay_with_their_backend_until_it_goes<F: TestFamily>() -> Result<()> {
    let rig = Rig::new(nodes())?;
    let sticky =
        |backends: &[&str]| rig.service(backends).field("sessionAffinity", json!("ClientIP"));
    rig.cluster.manifests.apply(&sticky(&[LOCAL, REMOTE]))?;
    let mut agent = rig.start()?;
    for from in [rig.pod("client"), rig.outsider(), rig.node()] {
        for protocol in Protocol::OF_SOCKETS {
            let mut chosen = Vec::new();
            for frontend in Frontend::ALL {
                chosen.extend(ask(from, protocol, frontend.target(F::FAMILY))?.into_keys());
            }
            chosen.dedup();
            ensure!(chosen.len() == 1, "{protocol} from {}: {chosen:?}", from.name());
            let other = if chosen[0] == LOCAL { REMOTE } else { LOCAL };
            rig.cluster.manifests.apply(&sticky(&[other]))?;
            let target = Frontend::ClusterIp.target(F::FAMILY);
            let goes = || ask(from, protocol, target).is_ok_and(|seen| seen.keys().eq([other]));
            ensure!(eventually(goes), "{protocol} from {}: it stays", from.name());
            // It does not go back to one that has come back.
            rig.cluster.manifests.apply(&sticky(&[LOCAL, REMOTE]))?;
            let target = Frontend::NodePort.target(F::FAMILY);
            ensure!(ask(from, protocol, target)?.keys().eq([other]), "{}", from.name());
        }
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

fn affinity_can_be_switched<F: TestFamily>() -> Result<()> {
    let rig = Rig::new(nodes())?;
    let mut agent = None;
    for (affinity, backends) in [("None", 2), ("ClientIP", 1), ("None", 2), ("ClientIP", 1)] {
        let service = rig.service(&[LOCAL, REMOTE]).field("sessionAffinity", json!(affinity));
        rig.cluster.manifests.apply(&service)?;
        if agent.is_none() {
            agent = Some(rig.start()?);
        }
        for from in [rig.pod("client"), rig.outsider(), rig.node()] {
            for frontend in [Frontend::ClusterIp, Frontend::NodePort] {
                let target = frontend.target(F::FAMILY);
                let has = || {
                    let seen = ask(from, Protocol::Tcp, target);
                    seen.is_ok_and(|seen| seen.len() == backends)
                };
                ensure!(eventually(has), "{affinity}: {} {frontend:?}", from.name());
            }
        }
    }
    ensure!(agent.context("it was started")?.stop()?.success());
    Ok(())
}
