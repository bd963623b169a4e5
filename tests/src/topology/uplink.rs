// SPDX-License-Identifier: Apache-2.0

//! How a node is plugged into the network that joins the nodes.

use anyhow::Result;

use super::{Cable, DEVICE, FABRIC_BRIDGE, Uplink};
use crate::netns::Namespace;

/// The VLAN of nodes whose uplink is one.
const VLAN: u16 = 50;

/// What a node's VLAN or macvlan is on.
pub const TRUNK: &str = "trunk";

/// The port of a node's bridge.
const PORT: &str = "port";

/// Gives the machine `name` its device [`DEVICE`], joined to the fabric.
pub(super) fn plug_in(
    fabric: &Namespace,
    name: &str,
    machine: &Namespace,
    uplink: Uplink,
    cable: Cable,
) -> Result<()> {
    let outside = fabric.netlink()?;
    let join = |port: &str| outside.enslave(port, outside.link(FABRIC_BRIDGE)?);
    match uplink {
        Uplink::Plain => {
            outside.add_veth(cable.end(name), cable.end(DEVICE), machine)?;
            join(name)
        }
        Uplink::Vlan => {
            outside.add_veth(cable.end(name), cable.end(TRUNK), machine)?;
            let port = format!("{name}.{VLAN}");
            fabric.ip(&format!("link add link {name} name {port} up type vlan id {VLAN}"))?;
            machine.ip(&format!("link add link {TRUNK} name {DEVICE} up type vlan id {VLAN}"))?;
            join(&port)
        }
        Uplink::Macvlan => {
            outside.add_veth(cable.end(name), cable.end(TRUNK), machine)?;
            machine
                .ip(&format!("link add link {TRUNK} name {DEVICE} up type macvlan mode bridge"))?;
            join(name)
        }
        Uplink::Bond => {
            add_bond(fabric, name, machine, DEVICE, cable)?;
            machine.netlink()?.up(DEVICE)
        }
        Uplink::Bridge => {
            outside.add_veth(cable.end(name), cable.end(PORT), machine)?;
            join(name)?;
            add_bridge(machine)
        }
        Uplink::BridgedBond => {
            add_bond(fabric, name, machine, PORT, cable)?;
            machine.netlink()?.up(PORT)?;
            add_bridge(machine)
        }
    }
}

/// A bond of two veths to the fabric.
fn add_bond(
    fabric: &Namespace,
    name: &str,
    machine: &Namespace,
    device: &str,
    cable: Cable,
) -> Result<()> {
    let outside = fabric.netlink()?;
    machine.ip(&format!("link add {device} type bond mode active-backup miimon 100"))?;
    for number in 0..2 {
        let (port, leg) = (format!("{name}-{number}"), format!("leg{number}"));
        outside.add_veth(cable.end(&port), cable.end(&leg), machine)?;
        // Bonds take devices that are down, and set them up.
        machine.ip(&format!("link set {leg} down"))?;
        machine.ip(&format!("link set {leg} master {device}"))?;
        outside.enslave(&port, outside.link(FABRIC_BRIDGE)?)?;
    }
    Ok(())
}

/// The bridge whose port is [`PORT`], with its hardware address, as administrators have it.
fn add_bridge(machine: &Namespace) -> Result<()> {
    machine.ip(&format!("link add {DEVICE} type bridge"))?;
    let inside = machine.netlink()?;
    inside.enslave(PORT, inside.link(DEVICE)?)?;
    inside.up(DEVICE)
}
