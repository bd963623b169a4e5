// SPDX-License-Identifier: Apache-2.0

//! What a topology is to look like.

use crate::family::IpFamily;
use crate::netns::Veth;

/// How a node's network plugin connects its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodNetwork {
    /// Pods are ports of a bridge that is their gateway, as with the bridge
    /// plugin, flannel and kubenet.
    Bridge {
        /// Whether bridged packets pass through iptables (`br_netfilter`).
        netfilter: bool,
    },
    /// Each pod has a veth pair of its own, a host route, and a link-local
    /// gateway, as with Calico.
    Routed,
    /// Each pod has a netkit pair of its own and a host route, as with
    /// Cilium. Linux 6.7 and later.
    Netkit(NetkitMode),
}

/// What a netkit pair carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetkitMode {
    /// Ethernet frames with addresses that mean something; pods have a
    /// gateway as with [`PodNetwork::Routed`].
    L2,
    /// Packets: there are neither Ethernet addresses nor gateways.
    L3,
}

/// What the device of a node in the nodes' network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// One end of a veth pair.
    Plain,
    /// A VLAN on it.
    Vlan,
    /// A bond of two of them.
    Bond,
    /// A macvlan on it.
    Macvlan,
    /// A bridge that it is a port of, and that has the node's addresses.
    Bridge,
    /// The same with a bond of two of them as its port.
    BridgedBond,
}

/// What machines are joined to the nodes' network by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cable {
    pub(super) mtu: Option<u32>,
    pub(super) queues: Option<u32>,
}

impl Cable {
    /// One of its ends.
    pub(super) const fn end(self, name: &str) -> Veth<'_> {
        Veth { mtu: self.mtu, queues: self.queues, ..Veth::named(name) }
    }
}

/// How packets get from node to node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BetweenNodes {
    /// Pod CIDRs are routed through the other node's address.
    Direct,
    /// Pod CIDRs are routed through a vxlan device, as with flannel.
    Vxlan,
    /// Pod CIDRs are routed through geneve devices.
    Geneve,
    /// Pod CIDRs are routed through devices that put packets into packets of
    /// the same family (`ipip`, `ip6tnl`), as with Calico.
    IpInIp,
    /// Pod CIDRs are routed through a wireguard device.
    Wireguard,
}

/// Which families exist. The other one has no addresses; IPv6 is then
/// disabled by sysctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// Both.
    Dual,
    /// One only.
    Single(IpFamily),
}

impl Families {
    /// Those that exist.
    #[must_use]
    pub fn list(self) -> Vec<IpFamily> {
        match self {
            Self::Dual => IpFamily::ALL.to_vec(),
            Self::Single(family) => vec![family],
        }
    }

    /// Whether `family` exists.
    #[must_use]
    pub fn contains(self, family: IpFamily) -> bool {
        self == Self::Dual || self == Self::Single(family)
    }
}

/// A node and its pods.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    pub(super) name: String,
    pub(super) network: PodNetwork,
    pub(super) pods: Vec<(String, u8)>,
}

impl NodeSpec {
    /// A node without pods.
    #[must_use]
    pub fn new(name: &str, network: PodNetwork) -> Self {
        Self { name: name.to_owned(), network, pods: Vec::new() }
    }

    /// A node with a bridge whose packets do not pass through iptables.
    #[must_use]
    pub fn bridge(name: &str) -> Self {
        Self::new(name, PodNetwork::Bridge { netfilter: false })
    }

    /// A node with a bridge whose packets pass through iptables.
    #[must_use]
    pub fn bridge_with_netfilter(name: &str) -> Self {
        Self::new(name, PodNetwork::Bridge { netfilter: true })
    }

    /// A node that routes to each pod.
    #[must_use]
    pub fn routed(name: &str) -> Self {
        Self::new(name, PodNetwork::Routed)
    }

    /// Adds a pod with the host number `host` (2 to 254) in the node's pod
    /// CIDR. Pod names are unique in a topology and at most 10 bytes long.
    #[must_use]
    pub fn pod(mut self, name: &str, host: u8) -> Self {
        self.pods.push((name.to_owned(), host));
        self
    }
}

/// Nodes, their pods, and what is around them.
#[derive(Clone, Debug)]
pub struct TopologySpec {
    pub(super) families: Families,
    pub(super) between: BetweenNodes,
    pub(super) uplink: Uplink,
    pub(super) cable: Cable,
    pub(super) checksum_offload: bool,
    pub(super) pods_know_tunnels: bool,
    pub(super) nodes: Vec<NodeSpec>,
    pub(super) outsiders: Vec<(String, u8)>,
}

impl Default for TopologySpec {
    fn default() -> Self {
        Self {
            families: Families::Dual,
            between: BetweenNodes::Direct,
            uplink: Uplink::Plain,
            cable: Cable::default(),
            checksum_offload: true,
            pods_know_tunnels: true,
            nodes: Vec::new(),
            outsiders: Vec::new(),
        }
    }
}

impl TopologySpec {
    /// Dual-stack, direct routing, checksums offloaded, nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Which families exist.
    #[must_use]
    pub fn families(mut self, families: Families) -> Self {
        self.families = families;
        self
    }

    /// How packets get from node to node.
    #[must_use]
    pub fn between_nodes(mut self, between: BetweenNodes) -> Self {
        self.between = between;
        self
    }

    /// What the nodes are plugged in by.
    #[must_use]
    pub fn uplink(mut self, uplink: Uplink) -> Self {
        self.uplink = uplink;
        self
    }

    /// The MTU of the nodes' network and of the pods, in bytes; 1,500 by
    /// default.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.cable.mtu = Some(mtu);
        self
    }

    /// How many queues the devices of machines have to send by, and how many
    /// to receive by, and so have the ports of their network; one by default.
    #[must_use]
    pub fn queues(mut self, queues: u32) -> Self {
        self.cable.queues = Some(queues);
        self
    }

    /// Whether pods leave checksums to the device, as veth does by default:
    /// then packets arrive with partial checksums and in large segments.
    #[must_use]
    pub fn checksum_offload(mut self, on: bool) -> Self {
        self.checksum_offload = on;
        self
    }

    /// Whether the MTU of pods leaves room for the headers of tunnels. Otherwise they have that of
    /// the nodes' network, and must find the path's.
    #[must_use]
    pub fn pods_know_tunnels(mut self, know: bool) -> Self {
        self.pods_know_tunnels = know;
        self
    }

    /// Adds a node. The first one has the number 1, so 192.168.50.1 and the
    /// pod CIDR 10.244.1.0/24.
    #[must_use]
    pub fn node(mut self, node: NodeSpec) -> Self {
        self.nodes.push(node);
        self
    }

    /// Adds a machine of the nodes' network that is not of the cluster, with
    /// the host number `host` (100 to 253).
    #[must_use]
    pub fn outsider(mut self, name: &str, host: u8) -> Self {
        self.outsiders.push((name.to_owned(), host));
        self
    }
}
