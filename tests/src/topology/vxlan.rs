// SPDX-License-Identifier: Apache-2.0

//! An overlay between nodes, as flannel makes it: one vxlan device that
//! carries both families and has its neighbours written down.

use anyhow::Result;

use super::{DEVICE, Families, Node, pod_cidr};
use crate::family::{DualAddress, IpFamily};
use crate::netns::{Prefix, Vxlan};

/// The device of the overlay on each node.
pub const VXLAN_DEVICE: &str = "flannel.1";

/// What is left of 1500 bytes after the headers of vxlan over IPv6, the
/// longer ones.
const POD_MTU: u32 = 1430;

/// Connects `node` to the nodes with the numbers `peers`.
pub(super) fn join(node: &mut Node, peers: &[u8]) -> Result<()> {
    let tunnel = match node.families() {
        Families::Dual => IpFamily::V4,
        Families::Single(family) => family,
    };
    let families = node.families().list();
    let netlink = node.host().namespace().netlink()?;
    let local = node.host().address(tunnel);
    let mac = mac(node.number());
    let vxlan = Vxlan { id: 1, device: DEVICE, local, port: 8472, mac };
    let device = netlink.add_vxlan(VXLAN_DEVICE, vxlan)?;
    for family in &families {
        // The pod CIDR's own address, which no pod has.
        let own = DualAddress::pod(node.number(), 0).of(*family);
        netlink.add_address(device, Prefix(own, family.host_prefix_length()))?;
    }
    for peer in peers.iter().copied().filter(|peer| *peer != node.number()) {
        let remote = DualAddress::underlay(peer).of(tunnel);
        netlink.add_vxlan_peer(device, self::mac(peer), remote)?;
        for family in &families {
            let gateway = DualAddress::pod(peer, 0).of(*family);
            netlink.add_neighbour(device, gateway, self::mac(peer))?;
            netlink.add_route(pod_cidr(peer, *family), Some(gateway), device)?;
        }
    }
    node.pod_mtu = Some(POD_MTU);
    Ok(())
}

const fn mac(node: u8) -> [u8; 6] {
    [0x02, 0, 0, 8, 0x72, node]
}
