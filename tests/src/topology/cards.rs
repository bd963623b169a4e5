// SPDX-License-Identifier: Apache-2.0

//! Networks in which frames are as network cards and switches have them.

use anyhow::Result;

use super::{DEVICE, FABRIC_BRIDGE, Host, Node, Topology};
use crate::netns::Card;

impl Topology {
    /// Has all machines send frames with complete checksums, as network cards
    /// do, and has the network of the nodes take what drivers send, as long as
    /// what this returns lives.
    pub fn be_like_network_cards(&self) -> Result<Vec<Card>> {
        let hosts: Vec<&Host> = self.nodes().map(Node::host).chain(self.pods()).collect();
        for host in hosts.into_iter().chain(self.outsiders.values()) {
            host.namespace().disable_checksum_offload(DEVICE)?;
        }
        let mut cards = Vec::new();
        // Modules of the kernel may have added tunnels, which are down.
        for port in self.fabric.netlink()?.links_up()? {
            // A VLAN's device is none that a frame crosses by itself.
            if port != FABRIC_BRIDGE && port != "lo" && !port.contains('.') {
                self.fabric.write_vlan_tags(&port)?;
                cards.push(self.fabric.be_network_card(&port)?);
            }
        }
        Ok(cards)
    }
}
