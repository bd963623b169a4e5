// SPDX-License-Identifier: Apache-2.0

//! A network beside: the node has an address there, no default route and no address of its Node
//! object.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::family::{DualAddress, IpFamily, TestFamily};
use proxy_tests::netns::{Prefix, Veth};
use proxy_tests::topology::subnet_length;

use super::rig::{Frontend, LOCAL, NODE_PORT, REMOTE, Rig, is_served};
use super::uplinks::{
    OTHER_UPLINK, between, give_addresses, nodes, pods_behind_the_router, send_otherwise,
    with_router,
};

both_families!(clients_and_backends_on_a_network_beside);

/// What carries the node's device, as its NIC would.
const LEG: &str = "leg";

/// Joins the node and the router by a device of the node's that is like a NIC.
fn join_beside(rig: &Rig) -> Result<()> {
    let router = rig.cluster.topology.outsider("router").namespace();
    let node = rig.node().namespace();
    node.netlink()?.add_veth(Veth::named(LEG), Veth::named(OTHER_UPLINK), router)?;
    node.ip(&format!("link add link {LEG} name {OTHER_UPLINK} up type macvlan mode private"))?;
    give_addresses(rig)
}

/// The router and who is behind it are served at a node port of the address there, and by the
/// Service's addresses; and the other node's pods, which are reached over that network, see the
/// node by it, whichever way the client comes.
fn clients_and_backends_on_a_network_beside<F: TestFamily>() -> Result<()> {
    let rig = with_router(nodes())?;
    join_beside(&rig)?;
    for family in IpFamily::ALL {
        let far = Prefix(DualAddress::far(0).of(family), subnet_length(family));
        for network in [far, pods_behind_the_router(&rig, family)?] {
            send_otherwise(&rig, network, "")?;
        }
    }
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    let ranges = IpFamily::ALL
        .map(|family| format!("{}/{}", between(0).of(family), subnet_length(family)))
        .join(",");
    // A veth is taken for a pod's device: a NIC would not be.
    let agent = rig.agent().argument("--exclude-device").argument(LEG);
    let mut agent = agent.argument(format!("--nodeport-addresses={ranges}")).start()?;
    let (here, there) = (between(1).of(F::FAMILY), between(2).of(F::FAMILY));
    let topology = &rig.cluster.topology;
    let (far, outsider) = (topology.outsider("far"), rig.outsider());
    let node_port = SocketAddr::new(here, NODE_PORT);
    let vip = Frontend::ClusterIp.target(F::FAMILY);
    for (from, target, seen) in [
        (topology.outsider("router"), node_port, there),
        (far, node_port, far.address(F::FAMILY)),
        (far, vip, far.address(F::FAMILY)),
        (outsider, vip, outsider.address(F::FAMILY)),
    ] {
        is_served(from, target, &[(LOCAL, seen), (REMOTE, here)])
            .with_context(|| format!("from {} to {target}", from.name()))?;
    }
    ensure!(agent.stop()?.success());
    Ok(())
}
