// SPDX-License-Identifier: Apache-2.0

//! Nodes, and how a network plugin connects pods to them.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};

use super::{DEVICE, Families, Host, NetkitMode, PodNetwork, default_route, subnet_length};
use crate::family::{DualAddress, IpFamily};
use crate::netns::{Namespace, Prefix, Veth};

/// The bridge of a node with bridge CNI.
pub const POD_BRIDGE: &str = "cni0";

/// The hardware address of the node's end of each routed pod's pair, as
/// Calico sets it; the IPv6 gateway below is made of it.
const ROUTED_MAC: [u8; 6] = [0xee; 6];

/// The gateway of a routed pod: nobody has the IPv4 one, the node answers for
/// it by proxy ARP; the IPv6 one is the link-local address of its device.
const ROUTED_GATEWAY: DualAddress = DualAddress {
    v4: Ipv4Addr::new(169, 254, 1, 1),
    v6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee),
};

/// The host number of the gateway of bridged pods.
const BRIDGE_GATEWAY: u8 = 1;

/// A node with its pods.
#[derive(Debug)]
pub struct Node {
    /// They go before the node, whose control group theirs are in.
    pods: BTreeMap<String, Host>,
    host: Host,
    number: u8,
    network: PodNetwork,
    families: Families,
    /// The MTU of pods in bytes, where it is another than the kernel's default.
    pub(super) pod_mtu: Option<u32>,
}

impl Node {
    pub(super) fn new(
        host: Host,
        number: u8,
        network: PodNetwork,
        families: Families,
    ) -> Result<Self> {
        if let PodNetwork::Bridge { netfilter } = network {
            set_bridge_netfilter(host.namespace(), netfilter)?;
            let netlink = host.namespace().netlink()?;
            let bridge = netlink.add_bridge(POD_BRIDGE, [0x02, 0, 0, 0, number, 1])?;
            for family in families.list() {
                let gateway = DualAddress::pod(number, BRIDGE_GATEWAY).of(family);
                netlink.add_address(bridge, Prefix(gateway, subnet_length(family)))?;
            }
        }
        let is_bridge = matches!(network, PodNetwork::Bridge { .. });
        if !is_bridge && families.contains(IpFamily::V6) {
            // The gateway's address is set like any other, to be usable at once.
            host.namespace().sysctl([("ipv6/conf/default/addr_gen_mode", "1")])?;
        }
        Ok(Self { pods: BTreeMap::new(), host, number, network, families, pod_mtu: None })
    }

    /// Its namespace, name and addresses.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// Its number, which its addresses and its pod CIDR contain.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// The families that exist here.
    #[must_use]
    pub const fn families(&self) -> Families {
        self.families
    }

    /// Its pods, by name.
    pub fn pods(&self) -> impl Iterator<Item = &Host> {
        self.pods.values()
    }

    /// The pod of a name.
    #[must_use]
    pub fn pod(&self, name: &str) -> Option<&Host> {
        self.pods.get(name)
    }

    pub(super) fn add_pod(&mut self, name: &str, host: u8, checksum_offload: bool) -> Result<()> {
        let pod = self.make_pod(name, host, checksum_offload)?;
        drop(self.pods.insert(name.to_owned(), pod));
        Ok(())
    }

    /// Makes a pod that is none of the node's [`pods`](Self::pods).
    pub(super) fn make_pod(&self, name: &str, host: u8, checksum_offload: bool) -> Result<Host> {
        let device = pod_device(name);
        ensure!(device.len() < 16, "the name {name} is too long for a device's name");
        let addresses = DualAddress::pod(self.number, host);
        let cgroup = self.host.namespace().cgroup().map(|node| node.child(name)).transpose()?;
        let pod = Host::new(name, self.host.node(), cgroup, addresses, self.families)?;
        let has_gateway =
            matches!(self.network, PodNetwork::Routed | PodNetwork::Netkit(NetkitMode::L2));
        let mac = has_gateway.then_some(ROUTED_MAC);
        let here = Veth { name: &device, mac, mtu: self.pod_mtu, queues: None };
        let there = Veth { mtu: self.pod_mtu, ..Veth::named(DEVICE) };
        let netlink = self.host.namespace().netlink()?;
        match self.network {
            PodNetwork::Netkit(mode) => netlink.add_netkit(here, there, mode, pod.namespace()),
            _ => netlink.add_veth(here, there, pod.namespace()),
        }?;
        match self.network {
            PodNetwork::Bridge { .. } => self.plug_into_bridge(&device, &pod),
            _ => self.route_to(&device, &pod),
        }?;
        if !checksum_offload {
            pod.namespace().disable_checksum_offload(DEVICE)?;
            self.host.namespace().disable_checksum_offload(&device)?;
        }
        Ok(pod)
    }

    pub(super) fn remove_pod(&mut self, name: &str) -> Result<()> {
        // As plugins do: otherwise the kernel removes it at some later time.
        self.host.namespace().netlink()?.delete(&pod_device(name))?;
        drop(self.pods.remove(name));
        Ok(())
    }

    fn plug_into_bridge(&self, device: &str, pod: &Host) -> Result<()> {
        let netlink = self.host.namespace().netlink()?;
        netlink.enslave(device, netlink.link(POD_BRIDGE)?)?;
        let inside = pod.namespace().netlink()?;
        let eth0 = inside.link(DEVICE)?;
        for family in self.families.list() {
            let address = Prefix(pod.address(family), subnet_length(family));
            let gateway = DualAddress::pod(self.number, BRIDGE_GATEWAY).of(family);
            inside.add_address(eth0, address)?;
            inside.add_route(default_route(family), Some(gateway), eth0)?;
        }
        Ok(())
    }

    fn route_to(&self, device: &str, pod: &Host) -> Result<()> {
        if self.families.contains(IpFamily::V4) {
            self.host.namespace().sysctl([
                (format!("ipv4/conf/{device}/proxy_arp").as_str(), "1"),
                (format!("ipv4/neigh/{device}/proxy_delay").as_str(), "0"),
            ])?;
        }
        let netlink = self.host.namespace().netlink()?;
        let link = netlink.link(device)?;
        let inside = pod.namespace().netlink()?;
        let eth0 = inside.link(DEVICE)?;
        if self.families.contains(IpFamily::V6) {
            netlink.add_address(link, Prefix(ROUTED_GATEWAY.of(IpFamily::V6), 64))?;
        }
        for family in self.families.list() {
            let address = Prefix(pod.address(family), family.host_prefix_length());
            let gateway = ROUTED_GATEWAY.of(family);
            netlink.add_route(address, None, link)?;
            inside.add_address(eth0, address)?;
            if self.network == PodNetwork::Netkit(NetkitMode::L3) {
                inside.add_route(default_route(family), None, eth0)?;
                continue;
            }
            inside.add_route(host_prefix(gateway), None, eth0)?;
            inside.add_route(default_route(family), Some(gateway), eth0)?;
        }
        Ok(())
    }
}

/// The node's device to the pod `name`.
#[must_use]
pub fn pod_device(name: &str) -> String {
    format!("veth-{name}")
}

const fn host_prefix(address: IpAddr) -> Prefix {
    Prefix(address, IpFamily::of(address).host_prefix_length())
}

/// Sets whether the packets that bridges switch pass through iptables.
pub(super) fn set_bridge_netfilter(namespace: &Namespace, on: bool) -> Result<()> {
    let value = if on { "1" } else { "0" };
    let loaded = fs::exists("/proc/sys/net/bridge/bridge-nf-call-iptables")?;
    if !loaded {
        ensure!(!on, "br_netfilter is not loaded: modprobe br_netfilter");
        return Ok(());
    }
    namespace
        .sysctl([
            ("bridge/bridge-nf-call-iptables", value),
            ("bridge/bridge-nf-call-ip6tables", value),
        ])
        .context("setting whether bridged packets pass through iptables")
}
