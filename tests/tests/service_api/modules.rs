// SPDX-License-Identifier: Apache-2.0

//! Uplinks that are modules of the kernel, which not every kernel has: the stage `kernels` runs these
//! in guests whose kernels do. Each takes both families, since there a network costs more than
//! anything else.

use anyhow::{Result, ensure};
use proxy_common::counter::Reason;
use proxy_tests::agent::Agent;
use proxy_tests::family::{V4, V6};
use proxy_tests::topology::{BetweenNodes, DEVICE, TRUNK, Uplink};

use super::drivers::{count, says, with_cards};
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

/// The same; says how many packets of each family have left from a driver meanwhile.
fn sent_while_serving(rig: &Rig, agent: &Agent<'_>) -> Result<[u64; 2]> {
    let sent = || Ok([count::<V4>(agent, Reason::XdpSent)?, count::<V6>(agent, Reason::XdpSent)?]);
    let before: Result<[u64; 2]> = sent();
    serves_far::<V4>(rig)?;
    serves_far::<V6>(rig)?;
    let (before, after) = (before?, sent()?);
    Ok([after[0] - before[0], after[1] - before[1]])
}

/// Without their tag, frames of a VLAN cannot be told from others: the driver must leave it where it is.
#[test]
fn a_vlan_in_the_driver_below() -> Result<()> {
    let (rig, _cards) = with_cards(nodes().uplink(Uplink::Vlan))?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    ensure!(says(&agent, "rxvlan off", 1), "{}", agent.log()?);
    let sent = sent_while_serving(&rig, &agent)?;
    ensure!(sent == [0, 0], "{sent:?} packets have left from the driver");
    rig.node().namespace().leave_vlan_tags(TRUNK)?;
    ensure!(says(&agent, "packets are handled in the driver", 1), "{}", agent.log()?);
    let sent = sent_while_serving(&rig, &agent)?;
    ensure!(sent.iter().all(|sent| *sent > 100), "{sent:?} packets have left from the driver");
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn a_bond_in_the_drivers_of_its_legs() -> Result<()> {
    let (rig, _cards) = with_cards(nodes().uplink(Uplink::Bond))?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let sent = sent_while_serving(&rig, &agent)?;
    ensure!(sent.iter().all(|sent| *sent > 100), "{sent:?} packets have left from the driver");
    ensure!(agent.stop()?.success());
    Ok(())
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
