// SPDX-License-Identifier: Apache-2.0

//! Clusters of network namespaces.
//!
//! Every node, pod and outside machine is a namespace, with a device `eth0`.
//! The nodes' `eth0` are ports of a bridge in a namespace of its own, the
//! fabric, which also holds the address of their default route; it forwards
//! nothing, so that what is sent to an address that nobody has is lost as on
//! a real network. Devices are made inside the namespaces, never outside.
//!
//! Every node has a control group, with one for each of its pods in it, as
//! kubelet makes them; what runs in a node or pod is in its group.

mod cards;
mod far;
mod host;
mod node;
mod spec;
mod tunnel;
mod uplink;
mod vxlan;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result, ensure};

use crate::cgroup::Cgroup;
use crate::family::{DualAddress, IpFamily};
use crate::netns::{Namespace, Prefix};

pub use host::Host;
pub use node::{Node, POD_BRIDGE, pod_device};
pub use spec::{BetweenNodes, Families, NetkitMode, NodeSpec, PodNetwork, TopologySpec, Uplink};
pub use uplink::TRUNK;
pub use vxlan::VXLAN_DEVICE;

use spec::Cable;

/// The device of a node, pod or outsider.
pub const DEVICE: &str = "eth0";

/// The host number of the nodes' default gateway.
const GATEWAY: u8 = 254;

/// The device of the fabric that joins the nodes.
const FABRIC_BRIDGE: &str = "fabric";

/// What is being made, for whoever shows progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The node of this name.
    Node(&'a str),
    /// The pod of this name.
    Pod(&'a str),
    /// The outside machine of this name.
    Outsider(&'a str),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(formatter, "node {name}"),
            Self::Pod(name) => write!(formatter, "pod {name}"),
            Self::Outsider(name) => write!(formatter, "outside machine {name}"),
        }
    }
}

/// A running topology; dropping it takes everything down.
#[derive(Debug)]
pub struct Topology {
    families: Families,
    cable: Cable,
    checksum_offload: bool,
    nodes: BTreeMap<String, Node>,
    outsiders: BTreeMap<String, Host>,
    fabric: Namespace,
}

impl TopologySpec {
    /// Makes the topology.
    pub fn build(&self) -> Result<Topology> {
        self.build_with_progress(|_| {})
    }

    /// Makes the topology and says each step before it is done.
    pub fn build_with_progress(&self, mut progress: impl FnMut(Step<'_>)) -> Result<Topology> {
        let mut topology = Topology {
            families: self.families,
            cable: self.cable,
            checksum_offload: self.checksum_offload,
            nodes: BTreeMap::new(),
            outsiders: BTreeMap::new(),
            fabric: fabric(self.families)?,
        };
        for (number, spec) in (1..).zip(&self.nodes) {
            progress(Step::Node(&spec.name));
            let node = topology.add_node(number, spec, self.uplink);
            let node = node.with_context(|| format!("making node {}", spec.name))?;
            ensure!(topology.nodes.insert(spec.name.clone(), node).is_none(), "two {}", spec.name);
        }
        topology.join_nodes(self.between)?;
        if !self.pods_know_tunnels {
            topology.nodes.values_mut().for_each(|node| node.pod_mtu = self.cable.mtu);
        }
        for spec in &self.nodes {
            for (name, host) in &spec.pods {
                progress(Step::Pod(name));
                topology.add_pod(&spec.name, name, *host)?;
            }
        }
        for (name, host) in &self.outsiders {
            progress(Step::Outsider(name));
            let outsider = topology.add_machine(name, None, *host, Uplink::Plain)?;
            ensure!(topology.outsiders.insert(name.clone(), outsider).is_none(), "two {name}");
        }
        Ok(topology)
    }
}

impl Topology {
    /// A node, with what is special to nodes.
    ///
    /// # Panics
    ///
    /// If there is no such node.
    #[must_use]
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.get(name).unwrap_or_else(|| panic!("there is no node {name}"))
    }

    /// A pod.
    ///
    /// # Panics
    ///
    /// If there is no such pod.
    #[must_use]
    pub fn pod(&self, name: &str) -> &Host {
        let pod = self.nodes.values().find_map(|node| node.pod(name));
        pod.unwrap_or_else(|| panic!("there is no pod {name}"))
    }

    /// An outside machine.
    ///
    /// # Panics
    ///
    /// If there is no such machine.
    #[must_use]
    pub fn outsider(&self, name: &str) -> &Host {
        self.outsiders.get(name).unwrap_or_else(|| panic!("there is no outsider {name}"))
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// All pods, by node and name.
    pub fn pods(&self) -> impl Iterator<Item = &Host> {
        self.nodes.values().flat_map(Node::pods)
    }

    /// The families that exist here.
    #[must_use]
    pub const fn families(&self) -> Families {
        self.families
    }

    /// Gives the nodes' default gateway another address, and the way to pods. It listens to nobody
    /// there, and says so, each time.
    pub fn give_gateway(&self, address: DualAddress) -> Result<()> {
        self.fabric.sysctl([("ipv4/icmp_ratelimit", "0")])?;
        if self.families.contains(IpFamily::V6) {
            self.fabric.sysctl([("ipv6/icmp/ratelimit", "0")])?;
        }
        let netlink = self.fabric.netlink()?;
        let bridge = netlink.link(FABRIC_BRIDGE)?;
        for family in self.families.list() {
            let prefix = Prefix(address.of(family), family.host_prefix_length());
            netlink.add_address(bridge, prefix)?;
            for node in self.nodes.values() {
                let gateway = node.host().address(family);
                netlink.add_route(pod_cidr(node.number(), family), Some(gateway), bridge)?;
            }
        }
        Ok(())
    }

    /// Adds a pod to a running node; see [`NodeSpec::pod`].
    pub fn add_pod(&mut self, node: &str, name: &str, host: u8) -> Result<()> {
        ensure!(self.pods().all(|pod| pod.name() != name), "there is a pod {name} already");
        let node = self.nodes.get_mut(node).with_context(|| format!("there is no node {node}"))?;
        node.add_pod(name, host, self.checksum_offload)
            .with_context(|| format!("making pod {name}"))
    }

    /// Makes a pod on a running node that the topology does not keep, nor know: see [`NodeSpec::pod`]. Its device goes with
    /// it.
    pub fn late_pod(&self, node: &str, name: &str, host: u8) -> Result<Host> {
        let pod = self.node(node).make_pod(name, host, self.checksum_offload);
        pod.with_context(|| format!("making pod {name}"))
    }

    /// Removes a pod and its device at once, as a deleted pod goes.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        let node = self.nodes.values_mut().find(|node| node.pod(name).is_some());
        node.with_context(|| format!("there is no pod {name}"))?.remove_pod(name)
    }

    fn add_node(&self, number: u8, spec: &NodeSpec, uplink: Uplink) -> Result<Node> {
        let host = self.add_machine(&spec.name, Some(&spec.name), number, uplink)?;
        host.namespace().sysctl([
            ("ipv4/ip_forward", "1"),
            // The stricter of what distributions set.
            ("ipv4/conf/all/rp_filter", "1"),
        ])?;
        if self.families.contains(IpFamily::V6) {
            host.namespace().sysctl([("ipv6/conf/all/forwarding", "1")])?;
        }
        let mut node = Node::new(host, number, spec.network, self.families)?;
        node.pod_mtu = self.cable.mtu;
        Ok(node)
    }

    /// A machine in the nodes' network.
    fn add_machine(
        &self,
        name: &str,
        node: Option<&str>,
        number: u8,
        uplink: Uplink,
    ) -> Result<Host> {
        let addresses = DualAddress::underlay(number);
        let cgroup = node.map(Cgroup::new).transpose()?;
        let host = Host::new(name, node, cgroup, addresses, self.families)?;
        uplink::plug_in(&self.fabric, name, host.namespace(), uplink, self.cable)?;
        let netlink = host.namespace().netlink()?;
        let device = netlink.link(DEVICE)?;
        for family in self.families.list() {
            let length = subnet_length(family);
            netlink.add_address(device, Prefix(addresses.of(family), length))?;
            let gateway = DualAddress::underlay(GATEWAY).of(family);
            netlink.add_route(default_route(family), Some(gateway), device)?;
        }
        Ok(host)
    }

    /// Makes each node reach the pods of the others.
    fn join_nodes(&mut self, between: BetweenNodes) -> Result<()> {
        match between {
            BetweenNodes::Direct => {}
            BetweenNodes::Vxlan => {
                let peers: Vec<_> = self.nodes.values().map(Node::number).collect();
                return self.nodes.values_mut().try_for_each(|node| vxlan::join(node, &peers));
            }
            tunnel => return tunnel::join(&mut self.nodes, tunnel),
        }
        for node in self.nodes.values() {
            let netlink = node.host().namespace().netlink()?;
            let device = netlink.link(DEVICE)?;
            for peer in self.nodes.values().filter(|peer| peer.number() != node.number()) {
                for family in self.families.list() {
                    let gateway = peer.host().address(family);
                    netlink.add_route(pod_cidr(peer.number(), family), Some(gateway), device)?;
                }
            }
        }
        Ok(())
    }
}

/// The namespace that joins the nodes.
fn fabric(families: Families) -> Result<Namespace> {
    let namespace = Namespace::new("fabric")?;
    host::prepare(&namespace, families)?;
    node::set_bridge_netfilter(&namespace, false)?;
    let netlink = namespace.netlink()?;
    let bridge = netlink.add_bridge(FABRIC_BRIDGE, [0x02, 0, 0, 0, 0, GATEWAY])?;
    for family in families.list() {
        let gateway = DualAddress::underlay(GATEWAY).of(family);
        netlink.add_address(bridge, Prefix(gateway, subnet_length(family)))?;
    }
    Ok(namespace)
}

/// The pod CIDR of a node.
#[must_use]
pub fn pod_cidr(node: u8, family: IpFamily) -> Prefix {
    Prefix(DualAddress::pod(node, 0).of(family), subnet_length(family))
}

/// The length of the prefixes of all networks here, in bits.
#[must_use]
pub const fn subnet_length(family: IpFamily) -> u8 {
    match family {
        IpFamily::V4 => 24,
        IpFamily::V6 => 64,
    }
}

fn default_route(family: IpFamily) -> Prefix {
    Prefix(family.unspecified(), 0)
}
