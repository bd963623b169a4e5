// SPDX-License-Identifier: Apache-2.0

//! Frames of VLANs that come by a driver, and a table of these that is full.

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;
use proxy_common::device::{Device, MAX_WIRES, Wire};
use proxy_tests::both_families;

use super::{Node, POD, PROTOCOLS};
use crate::frames::{NODE_MAC, opening};
use crate::outside::{node_port, outsider};
use crate::programs::Verdict;
use crate::rig::{DEVICE, Tabled};

both_families!(a_wire_without_room_is_the_stacks);

/// VLANs on the device by which everything comes: one from the beginning, and one that comes when there is no room.
const EARLY: u16 = 7;
const LATE: u16 = 8;
/// A device that nobody has.
const NOBODY: u32 = 1 << 19;

/// Whether the driver handles what comes with this tag and opens flows; else it must leave that to the stack as it is.
fn handles<F: Tabled>(node: &Node<'_, F>, vlan: u16, port: u16) -> Result<bool> {
    let mut handled = Vec::new();
    for protocol in PROTOCOLS {
        let mut sent = opening(protocol, outsider::<F>(port), node_port::<F>());
        sent.link.vlan = Some(vlan);
        let outcome = node.rig.programs.in_driver(&sent)?;
        handled.push(outcome.verdict == Verdict::Redirect);
        if outcome.verdict != Verdict::Redirect {
            outcome.is(Verdict::Pass, &sent)?;
        }
    }
    ensure!(handled[0] == handled[1], "{handled:?}, after {:?}", node.counts());
    Ok(handled[0])
}

fn a_wire_without_room_is_the_stacks<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let device = if_nametoindex(POD)?;
        let (early, late) = (Wire::new(DEVICE, EARLY), Wire::new(DEVICE, LATE));
        let uplink = Device::uplink(NODE_MAC).with_xdp(early);
        node.rig.devices.insert(device, uplink, 0)?;
        ensure!(!handles(node, EARLY, 1)?, "a wire that nobody has told of");
        node.rig.device_tables.put_wire(early, device)?;
        ensure!(handles(node, EARLY, 2)?, "{:?}", node.counts());
        let mut fillers = (0..MAX_WIRES).map(|number| Wire::new(NOBODY + number, 0));
        let full = fillers.find_map(|wire| node.rig.device_tables.put_wire(wire, device).err());
        let full = full.context("there is no end of the room")?.to_string();
        ensure!(full == "map WIRES is full", "{full}");
        let refused =
            node.rig.device_tables.put_wire(late, device).err().context("there is room")?;
        ensure!(refused.to_string() == "map WIRES is full", "{refused}");
        // What is there goes on, and can be written again; what is new goes through the stack.
        node.rig.device_tables.put_wire(early, device)?;
        ensure!(handles(node, EARLY, 3)?, "{:?}", node.counts());
        ensure!(!handles(node, LATE, 4)?, "its wire is not known");
        node.rig.device_tables.remove_wire(Wire::new(NOBODY, 0))?;
        node.rig.device_tables.put_wire(late, device)?;
        ensure!(handles(node, LATE, 5)?, "{:?}", node.counts());
        ensure!(handles(node, EARLY, 6)?, "{:?}", node.counts());
        Ok(())
    })
}
