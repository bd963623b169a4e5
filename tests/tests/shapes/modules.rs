// SPDX-License-Identifier: Apache-2.0

//! Shapes whose devices are modules of the kernel, which not every kernel has: the stage `kernels`
//! runs them in guests whose kernels do. Each takes both families, since there a network costs
//! more than anything else.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::family::{TestFamily, V4, V6};
use proxy_tests::topology::{BetweenNodes, NetkitMode, PodNetwork, TopologySpec, Uplink};

use super::rig::{NODE, OTHER_NODE, Place, Rig};
use super::{firewall, hops};

const BRIDGE: PodNetwork = PodNetwork::Bridge { netfilter: true };

/// Every backend is reached under the worst of rules, in both families.
fn is_served(spec: TopologySpec, pods: PodNetwork) -> Result<()> {
    let rig = Rig::new(spec, pods)?;
    let mut agent = rig.start()?;
    let nodes = [NODE, OTHER_NODE].map(|node| rig.topology.node(node).host().namespace());
    for node in nodes {
        firewall::WORST.apply(node)?;
    }
    is_served_in::<V4>(&rig)
        .and_then(|()| is_served_in::<V6>(&rig))
        .with_context(|| format!("the nodes counted {:?}", nodes.map(firewall::counts)))?;
    for node in nodes {
        let counts = firewall::counts(node)?;
        ensure!(counts.forwarded > 0 && !counts.has_drops(), "{counts:?}");
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

fn is_served_in<F: TestFamily>(rig: &Rig) -> Result<()> {
    for place in Place::PODS.into_iter().chain(Place::OTHERS) {
        rig.serves::<F>(place, true)?;
    }
    hops::are_as_directly::<F>(rig, &Place::PODS)?;
    rig.refuses::<F>()
}

#[test]
fn geneve_over_a_vlan() -> Result<()> {
    let spec = TopologySpec::new().between_nodes(BetweenNodes::Geneve).uplink(Uplink::Vlan);
    is_served(spec, BRIDGE)
}

#[test]
fn wireguard_over_a_bond() -> Result<()> {
    let spec = TopologySpec::new().between_nodes(BetweenNodes::Wireguard).uplink(Uplink::Bond);
    is_served(spec, PodNetwork::Routed)
}

#[test]
fn ip_in_ip() -> Result<()> {
    is_served(TopologySpec::new().between_nodes(BetweenNodes::IpInIp), BRIDGE)
}

#[test]
fn netkit() -> Result<()> {
    for mode in [NetkitMode::L2, NetkitMode::L3] {
        is_served(TopologySpec::new(), PodNetwork::Netkit(mode))
            .with_context(|| format!("{mode:?}"))?;
    }
    Ok(())
}
