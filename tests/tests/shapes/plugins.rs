// SPDX-License-Identifier: Apache-2.0

//! Services under the netfilter rules of network plugins and policies, over each way in which
//! plugins connect pods and nodes.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::topology::{BetweenNodes, PodNetwork, TopologySpec};

use super::rig::{NODE, OTHER_NODE, Place, Rig};
use super::{firewall, hops};

both_families!(
    bridges,
    bridges_over_vxlan,
    bridges_with_netfilter,
    bridges_with_netfilter_over_vxlan,
    routed_pods,
    routed_pods_over_vxlan,
    full_checksums_behind_a_bridge_with_netfilter,
);

/// Under all rules: every backend is reached, and the rules have dropped nothing.
fn under_all_rules<F: TestFamily>(rig: &Rig) -> Result<()> {
    let mut agent = rig.start()?;
    let nodes = [NODE, OTHER_NODE].map(|node| rig.topology.node(node).host().namespace());
    for rules in firewall::ALL {
        for node in nodes {
            rules.apply(node)?;
        }
        under::<F>(rig, rules.masquerade).with_context(|| {
            let counts = nodes.map(firewall::counts);
            format!("{}, where the nodes counted {counts:?}", rules.name)
        })?;
        for node in nodes {
            let counts = firewall::counts(node)?;
            ensure!(counts.forwarded > 0, "{}: they have seen nothing", rules.name);
            ensure!(!counts.has_drops(), "{}: {counts:?}", rules.name);
        }
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

fn under<F: TestFamily>(rig: &Rig, masquerade: bool) -> Result<()> {
    for place in Place::PODS {
        rig.serves::<F>(place, masquerade)?;
    }
    // To a pod's address they have no way back.
    let others = if masquerade { &Place::OTHERS[..] } else { &[Place::Node] };
    for place in others {
        rig.serves::<F>(*place, masquerade)?;
    }
    hops::are_as_directly::<F>(rig, &Place::PODS)?;
    hops::are_as_directly::<F>(rig, others)?;
    rig.refuses::<F>()
}

fn bridges<F: TestFamily>() -> Result<()> {
    let pods = PodNetwork::Bridge { netfilter: false };
    under_all_rules::<F>(&Rig::joined(pods, BetweenNodes::Direct)?)
}

fn bridges_over_vxlan<F: TestFamily>() -> Result<()> {
    let pods = PodNetwork::Bridge { netfilter: false };
    under_all_rules::<F>(&Rig::joined(pods, BetweenNodes::Vxlan)?)
}

fn bridges_with_netfilter<F: TestFamily>() -> Result<()> {
    let pods = PodNetwork::Bridge { netfilter: true };
    under_all_rules::<F>(&Rig::joined(pods, BetweenNodes::Direct)?)
}

fn bridges_with_netfilter_over_vxlan<F: TestFamily>() -> Result<()> {
    let pods = PodNetwork::Bridge { netfilter: true };
    under_all_rules::<F>(&Rig::joined(pods, BetweenNodes::Vxlan)?)
}

fn routed_pods<F: TestFamily>() -> Result<()> {
    under_all_rules::<F>(&Rig::joined(PodNetwork::Routed, BetweenNodes::Direct)?)
}

fn routed_pods_over_vxlan<F: TestFamily>() -> Result<()> {
    under_all_rules::<F>(&Rig::joined(PodNetwork::Routed, BetweenNodes::Vxlan)?)
}

/// Netfilter looks at checksums that are not left to a device, and calls wrong ones INVALID.
fn full_checksums_behind_a_bridge_with_netfilter<F: TestFamily>() -> Result<()> {
    let spec = TopologySpec::new().checksum_offload(false);
    under_all_rules::<F>(&Rig::new(spec, PodNetwork::Bridge { netfilter: true })?)
}
