// SPDX-License-Identifier: Apache-2.0
//! Machines outside, each joined to the node by a device of its own: a client, and a server beyond the node.

use anyhow::Result;
use proxy_tests::{
    family::{DualAddress, IpFamily},
    netns::{Card, Namespace, Prefix, Veth},
    topology::subnet_length,
};

use super::measured;

/// The node's devices towards the client and the server, and all of them, as flags of the agent name them.
const TO_CLIENT: &str = "to-client";
const TO_SERVER: &str = "to-server";
pub(super) const ALL: &str = "to-*";

/// The machines' ends of them.
const DEVICE: &str = "card0";

/// The number of the node that the server is, by which its addresses are those of pods.
pub(super) const SERVER: u8 = 100;

/// The host numbers of the node in both networks, and of the client in its own.
const NODE: u8 = 1;
const CLIENT: u8 = 2;

/// The node, as its client knows it.
pub(super) const NODE_ADDRESS: DualAddress = DualAddress::far(NODE);

/// Joins a client to the node, which sends it what is for Services and for the server.
pub(super) fn join_client(node: &Namespace, client: &Namespace) -> Result<()> {
    join(node, TO_CLIENT, client, [NODE_ADDRESS, DualAddress::far(CLIENT)])?;
    for (family, services) in IpFamily::ALL.into_iter().zip(DualAddress::service_ranges()) {
        for network in [services, network(DualAddress::pod(SERVER, 0), family)] {
            route(client, network, NODE_ADDRESS)?;
        }
    }
    Ok(())
}

/// Joins a server to the node, which it sends to what is for the client.
pub(super) fn join_server(node: &Namespace, server: &Namespace) -> Result<()> {
    let gateway = DualAddress::pod(SERVER, NODE);
    join(node, TO_SERVER, server, [gateway, DualAddress::pod(SERVER, measured::FIRST)])?;
    measured::add_addresses(SERVER, (node, TO_SERVER), server)?;
    for family in IpFamily::ALL {
        route(server, network(DualAddress::far(0), family), gateway)?;
    }
    Ok(())
}

/// Has the machine send complete checksums, and take what the node's drivers send by themselves, as long as what
/// this returns lives.
pub(super) fn be_network_card(machine: &Namespace) -> Result<Card> {
    machine.be_network_card(DEVICE)
}

/// Has the machine take what the node's drivers send, as [`be_network_card`] does, and send as a veth does.
pub(super) fn take_frames(machine: &Namespace) -> Result<()> {
    machine.join_segments(DEVICE)
}

fn join(
    node: &Namespace,
    device: &str,
    machine: &Namespace,
    addresses: [DualAddress; 2],
) -> Result<()> {
    let (here, there) = (node.netlink()?, machine.netlink()?);
    here.add_veth(Veth::named(device), Veth::named(DEVICE), machine)?;
    // Nodes give the devices of pods no link-local addresses of their own, by which they look for neighbours.
    node.sysctl([(format!("ipv6/conf/{device}/addr_gen_mode").as_str(), "0")])?;
    let links = [(&here, here.link(device)?), (&there, there.link(DEVICE)?)];
    for ((netlink, link), address) in links.into_iter().zip(addresses) {
        for family in IpFamily::ALL {
            netlink.add_address(link, Prefix(address.of(family), subnet_length(family)))?;
        }
    }
    Ok(())
}

fn network(first: DualAddress, family: IpFamily) -> Prefix {
    Prefix(first.of(family), subnet_length(family))
}

fn route(machine: &Namespace, network: Prefix, gateway: DualAddress) -> Result<()> {
    let netlink = machine.netlink()?;
    let gateway = gateway.of(IpFamily::of(network.0));
    netlink.add_route(network, Some(gateway), netlink.link(DEVICE)?)
}
