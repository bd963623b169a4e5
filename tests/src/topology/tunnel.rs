// SPDX-License-Identifier: Apache-2.0

//! Tunnels between nodes other than vxlan: a device for each other node, or with wireguard one for
//! all.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{BetweenNodes, DEVICE, Families, Node, pod_cidr};
use crate::family::{DualAddress, IpFamily};
use crate::netns::{Namespace, Prefix};

/// What is left of 1500 bytes after the headers of the greediest of them.
const POD_MTU: u32 = 1420;

/// The device of wireguard on each node.
const WIREGUARD_DEVICE: &str = "wg0";

/// Where wireguard listens, on each node.
const WIREGUARD_PORT: u16 = 51_820;

/// Connects all nodes to each other.
pub(super) fn join(nodes: &mut BTreeMap<String, Node>, between: BetweenNodes) -> Result<()> {
    let keys: Vec<_> = if between == BetweenNodes::Wireguard {
        nodes.values().map(add_wireguard).collect::<Result<_>>()?
    } else {
        Vec::new()
    };
    for node in nodes.values() {
        for (number, peer) in nodes.values().enumerate() {
            if peer.number() == node.number() {
                continue;
            }
            match between {
                BetweenNodes::Geneve => add_geneve(node, peer)?,
                BetweenNodes::Wireguard => add_wireguard_peer(node, peer, &keys[number])?,
                _ => add_ip_in_ip(node, peer)?,
            }
        }
    }
    for node in nodes.values_mut() {
        node.pod_mtu = Some(POD_MTU);
    }
    Ok(())
}

/// Gives a tunnel's device the address by which the node itself is known beyond it.
fn set_up(node: &Node, device: &str, families: &[IpFamily]) -> Result<()> {
    let netlink = node.host().namespace().netlink()?;
    netlink.up(device)?;
    for family in families {
        // The pod CIDR's own address, which no pod has.
        let own = DualAddress::pod(node.number(), 0).of(*family);
        netlink.add_address(netlink.link(device)?, Prefix(own, family.host_prefix_length()))?;
    }
    Ok(())
}

/// Routes to a peer's pods through a device without neighbours.
fn route(node: &Node, peer: &Node, device: &str, families: &[IpFamily]) -> Result<()> {
    let netlink = node.host().namespace().netlink()?;
    for family in families {
        netlink.add_route(pod_cidr(peer.number(), *family), None, netlink.link(device)?)?;
    }
    Ok(())
}

/// The family of the packets that carry others.
fn outer(node: &Node) -> IpFamily {
    match node.families() {
        Families::Dual => IpFamily::V4,
        Families::Single(family) => family,
    }
}

/// Ethernet frames in UDP, with neighbours that are written down.
fn add_geneve(node: &Node, peer: &Node) -> Result<()> {
    const fn mac(node: u8) -> [u8; 6] {
        [0x02, 0, 0, 0x60, 0x81, node]
    }
    let device = format!("geneve-{}", peer.number());
    let remote = peer.host().address(outer(node));
    let address = mac(node.number()).map(|byte| format!("{byte:02x}")).join(":");
    let namespace = node.host().namespace();
    namespace
        .ip(&format!("link add {device} address {address} type geneve id 1 remote {remote}"))?;
    let families = node.families().list();
    set_up(node, &device, &families)?;
    let netlink = namespace.netlink()?;
    let link = netlink.link(&device)?;
    for family in families {
        let gateway = DualAddress::pod(peer.number(), 0).of(family);
        netlink.add_neighbour(link, gateway, mac(peer.number()))?;
        netlink.add_route(pod_cidr(peer.number(), family), Some(gateway), link)?;
    }
    Ok(())
}

/// Packets in packets of the same family, without Ethernet headers.
fn add_ip_in_ip(node: &Node, peer: &Node) -> Result<()> {
    for family in node.families().list() {
        let (local, remote) = (node.host().address(family), peer.host().address(family));
        let kind = match family {
            IpFamily::V4 => "ipip",
            IpFamily::V6 => "ip6tnl mode ip6ip6",
        };
        let device = format!("{family}-in-{}", peer.number()).to_lowercase();
        let ends = format!("local {local} remote {remote} dev {DEVICE}");
        node.host().namespace().ip(&format!("link add {device} type {kind} {ends}"))?;
        set_up(node, &device, &[family])?;
        route(node, peer, &device, &[family])?;
    }
    Ok(())
}

/// Makes wireguard's device, and returns its public key.
fn add_wireguard(node: &Node) -> Result<String> {
    let namespace = node.host().namespace();
    let private = namespace.output("wg", "genkey", "")?;
    namespace.ip(&format!("link add {WIREGUARD_DEVICE} type wireguard"))?;
    let set =
        format!("set {WIREGUARD_DEVICE} listen-port {WIREGUARD_PORT} private-key /proc/self/fd/0");
    let _: String = namespace.output("wg", &set, &private)?;
    set_up(node, WIREGUARD_DEVICE, &node.families().list())?;
    Ok(namespace.output("wg", "pubkey", &private)?.trim().to_owned())
}

/// Encrypted packets in UDP, without Ethernet headers.
fn add_wireguard_peer(node: &Node, peer: &Node, key: &str) -> Result<()> {
    let namespace: &Namespace = node.host().namespace();
    let families = node.families().list();
    let own =
        |family| Prefix(DualAddress::pod(peer.number(), 0).of(family), family.host_prefix_length());
    let allowed: Vec<_> = families
        .iter()
        .flat_map(|family| [pod_cidr(peer.number(), *family), own(*family)])
        .map(|prefix| prefix.to_string())
        .collect();
    let endpoint = std::net::SocketAddr::new(peer.host().address(outer(node)), WIREGUARD_PORT);
    let allowed = allowed.join(",");
    let set =
        format!("set {WIREGUARD_DEVICE} peer {key} allowed-ips {allowed} endpoint {endpoint}");
    let _: String = namespace.output("wg", &set, "")?;
    route(node, peer, WIREGUARD_DEVICE, &families)
}
