// SPDX-License-Identifier: Apache-2.0

//! Uplinks that are modules of the kernel, which not every kernel has: the stage `kernels` runs these
//! in guests whose kernels do. Each takes both families, since there a network costs more than
//! anything else.

use std::time::Duration;

use anyhow::{Result, ensure};
use proxy_common::counter::Reason;
use proxy_tests::agent::Agent;
use proxy_tests::cluster::eventually;
use proxy_tests::family::{TestFamily, V4, V6};
use proxy_tests::topology::{BetweenNodes, DEVICE, TRUNK, Uplink};
use proxy_tests::traffic::Client;

use super::drivers::{count, says, stacked::refusals, with_cards};
use super::exhaustion;
use super::rig::{Frontend, LOCAL, REMOTE, Rig};
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

/// A bond goes over from one leg to the other and back while clients ask. What is in the drivers then may be lost, as
/// by any bond; nothing else is, and packets leave from the driver by the leg that is in use.
#[test]
fn a_bond_in_drivers_goes_over_to_its_other_leg() -> Result<()> {
    let (rig, _cards) = with_cards(nodes().uplink(Uplink::Bond))?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    fails_over::<V4>(&rig, &agent)?;
    fails_over::<V6>(&rig, &agent)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn fails_over<F: TestFamily>(rig: &Rig, agent: &Agent<'_>) -> Result<()> {
    const ASKED: usize = 50;
    const LOST: usize = 2;
    let target = Frontend::LoadBalancer.target(F::FAMILY);
    let client = Client::new(rig.outsider());
    let (mut connection, mut socket) = (client.stay(target)?, client.datagrams(target)?);
    for leg in ["leg1", "leg0", "leg1", "leg0"] {
        rig.node().namespace().ip(&format!("link set {DEVICE} type bond active_slave {leg}"))?;
        let mut lost = 0;
        for _ in 0..ASKED {
            // Each has a number, and answers to those before are not taken for its own.
            lost += usize::from(socket.ask().is_err());
            let _: Duration = connection.exchange()?;
        }
        ensure!(lost <= LOST, "{lost} of {ASKED} datagrams are lost after {leg} was chosen");
        let leaves_from_driver = || {
            let sent = || count::<F>(agent, Reason::XdpSent).unwrap_or_default();
            let before = sent();
            let asked = (0..10).all(|_| socket.ask().is_ok());
            asked && sent() - before >= 16
        };
        ensure!(eventually(leaves_from_driver), "packets by {leg} do not leave from the driver");
    }
    ensure!(connection.exchanged() == 4 * u64::try_from(ASKED)?, "messages are lost");
    Ok(())
}

/// The VLAN's lower device has the program in another mode than the VLAN is to have it: which of the two comes first
/// is chance, and the other one is served by the stack.
#[test]
fn two_modes_on_one_driver() -> Result<()> {
    let (rig, _cards) = with_cards(nodes().uplink(Uplink::Vlan))?;
    rig.node().namespace().leave_vlan_tags(TRUNK)?;
    let agent = rig.agent().argument("--include-device").argument("uplink=trunk");
    let agent = agent.argument("--xdp").argument(format!("native={DEVICE}"));
    let mut agent = agent.argument("--xdp").argument("generic=trunk").start()?;
    serves_far::<V4>(&rig)?;
    serves_far::<V6>(&rig)?;
    let refused = refusals(&agent)?;
    ensure!(refused.len() == 1, "{refused:?}");
    let (device, error) = &refused[0];
    ensure!([DEVICE, "trunk"].contains(&device.as_str()), "{refused:?}");
    ensure!(error.contains("for other devices: not in mode"), "{refused:?}");
    for sent in [count::<V4>(&agent, Reason::XdpSent)?, count::<V6>(&agent, Reason::XdpSent)?] {
        ensure!((sent > 100) == (device == "trunk"), "{sent} packets have left: {refused:?}");
    }
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
