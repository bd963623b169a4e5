// SPDX-License-Identifier: Apache-2.0

//! Uplinks that are modules of the kernel, which not every kernel has: the stage `kernels` runs these
//! in guests whose kernels do. Each takes both families, since there a network costs more than
//! anything else.

use anyhow::{Result, ensure};
use proxy_common::counter::Reason;
use proxy_tests::family::{V4, V6};
use proxy_tests::topology::{BetweenNodes, DEVICE, Uplink};

use super::drivers::{count, with_cards};
use super::exhaustion;
use super::rig::{LOCAL, REMOTE, Rig};
use super::uplinks::{Tunnel, join_by_tunnel, nodes, serves_far, serves_over_tunnel, with_router};

/// Clients outside, behind a router, are served through an agent that is told nothing of devices.
fn is_served_over(uplink: Uplink) -> Result<()> {
    let rig = with_router(nodes().uplink(uplink))?;
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    let mut agent = rig.agent().start()?;
    serves_far::<V4>(&rig)?;
    serves_far::<V6>(&rig)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn a_vlan() -> Result<()> {
    is_served_over(Uplink::Vlan)
}

#[test]
fn a_bond() -> Result<()> {
    is_served_over(Uplink::Bond)
}

#[test]
fn a_bond_in_a_bridge_that_has_the_nodes_address() -> Result<()> {
    is_served_over(Uplink::BridgedBond)
}

/// The same, where packets are handled in the driver below.
fn is_served_in_driver_below(uplink: Uplink) -> Result<()> {
    let (rig, _cards) = with_cards(nodes().uplink(uplink))?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    serves_far::<V4>(&rig)?;
    serves_far::<V6>(&rig)?;
    for sent in [count::<V4>(&agent, Reason::XdpSent)?, count::<V6>(&agent, Reason::XdpSent)?] {
        ensure!(sent > 100, "{sent} packets have left from the driver");
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn a_vlan_in_the_driver_below() -> Result<()> {
    is_served_in_driver_below(Uplink::Vlan)
}

#[test]
fn a_bond_in_the_drivers_of_its_legs() -> Result<()> {
    is_served_in_driver_below(Uplink::Bond)
}

/// Frames without an Ethernet header, from outside and on the way back.
#[test]
fn a_client_behind_ip_in_ip() -> Result<()> {
    let rig = with_router(nodes())?;
    join_by_tunnel(&rig, Tunnel::IpInIp)?;
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    let mut agent = rig.agent().start()?;
    serves_over_tunnel::<V4>(&rig)?;
    serves_over_tunnel::<V6>(&rig)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// The answer to who finds no port is made of a frame without an Ethernet header, and leaves by a
/// device with one.
#[test]
fn who_finds_no_port_over_ip_in_ip_is_refused() -> Result<()> {
    let rig = Rig::new(exhaustion::nodes().between_nodes(BetweenNodes::IpInIp))?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let agent = exhaustion::RANGE.iter().fold(rig.agent(), |agent, word| agent.argument(*word));
    let mut agent = agent.start()?;
    exhaustion::is_refused_without_a_port::<V4>(&rig)?;
    exhaustion::is_refused_without_a_port::<V6>(&rig)?;
    ensure!(agent.stop()?.success());
    Ok(())
}
