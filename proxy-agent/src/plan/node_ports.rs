// SPDX-License-Identifier: Apache-2.0
//! At which of the node's addresses node ports are served (kube-proxy's `--nodeport-addresses`).

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use proxy_common::{Family, V4, V6, family::Address as _};

use crate::model::Node;

/// At which of the node's addresses node ports are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The Node's own address of each family: what its object says, first of all.
    #[default]
    Primary,
    /// All that the host has within these ranges.
    Within(Vec<IpNet>),
}

impl NodePortAddresses {
    /// Whether processes of the node find node ports at loopback addresses of a family, too: unless
    /// ranges are named that have none.
    #[must_use]
    pub fn include_loopback<F: Family>(&self) -> bool {
        let of_family = |range: &&IpNet| F::Addr::from_ip(range.addr()).is_some();
        match self {
            Self::Primary => true,
            Self::Within(ranges) => ranges
                .iter()
                .filter(of_family)
                .any(|range| range.addr().is_loopback() || range.prefix_len() == 0),
        }
    }
}

/// The addresses at which node ports are served, for a Node that may not be known and a host that
/// has these addresses. Loopback addresses are never among them (CVE-2020-8558), and link-local ones
/// are not either: no packet to one of them is routed.
#[must_use]
pub fn node_port_addresses(
    served: &NodePortAddresses,
    node: Option<&Node>,
    local: &BTreeSet<IpAddr>,
) -> BTreeSet<IpAddr> {
    match served {
        NodePortAddresses::Primary => {
            let own = node.map(|node| [primary::<V4>(node), primary::<V6>(node)]);
            own.into_iter().flatten().flatten().collect()
        }
        NodePortAddresses::Within(ranges) => {
            let within = |ip: &&IpAddr| ranges.iter().any(|range| range.contains(*ip));
            local.iter().filter(|ip| is_reachable(**ip)).filter(within).copied().collect()
        }
    }
}

fn primary<F: Family>(node: &Node) -> Option<IpAddr> {
    node.primary_address::<F>().map(Into::into)
}

fn is_reachable(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() && !link_local
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    const LOCAL: [&str; 8] = [
        "127.0.0.1",
        "192.0.2.1",
        "192.0.2.2",
        "198.51.100.1",
        "169.254.0.1",
        "::1",
        "fe80::1",
        "2001:db8::1",
    ];

    #[test]
    fn loopback_addresses_are_the_nodes_own_affair() {
        let both = |served: &NodePortAddresses| {
            [served.include_loopback::<V4>(), served.include_loopback::<V6>()]
        };
        let within = |range: &str| NodePortAddresses::Within(vec![range.parse().unwrap()]);
        assert_eq!(both(&NodePortAddresses::Primary), [true, true]);
        assert_eq!(both(&within("0.0.0.0/0")), [true, false]);
        assert_eq!(both(&within("::1/128")), [false, true]);
        assert_eq!(both(&within("127.0.0.0/8")), [true, false]);
        assert_eq!(both(&within("192.0.2.0/24")), [false, false]);
    }

    #[test]
    fn the_primary_addresses_are_those_of_the_node() {
        let primary = NodePortAddresses::default();
        let local = ips(&LOCAL);
        assert_eq!(node_port_addresses(&primary, None, &local), ips(&[]));
        let addresses = ["2001:db8::7", "192.0.2.7", "192.0.2.1", "2001:db8::1"];
        let addresses = addresses.map(|text| text.parse().unwrap()).to_vec();
        let node = Node { addresses, ..Node::default() };
        let expected = ips(&["192.0.2.7", "2001:db8::7"]);
        assert_eq!(node_port_addresses(&primary, Some(&node), &local), expected);
        assert_eq!(node_port_addresses(&primary, Some(&node), &ips(&[])), expected);
    }

    #[test]
    fn ranges_choose_among_the_addresses_of_the_host() {
        let within = |ranges: &[&str]| {
            let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
            node_port_addresses(&NodePortAddresses::Within(ranges), None, &ips(&LOCAL))
        };
        assert_eq!(within(&["192.0.2.0/31"]), ips(&["192.0.2.1"]));
        assert_eq!(
            within(&["192.0.2.0/24", "2001:db8::/64"]),
            ips(&["192.0.2.1", "192.0.2.2", "2001:db8::1",])
        );
        let all_v4 = ["192.0.2.1", "192.0.2.2", "198.51.100.1"];
        assert_eq!(within(&["0.0.0.0/0"]), ips(&all_v4));
        assert_eq!(within(&["::/0"]), ips(&["2001:db8::1"]));
        for never in ["127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10"] {
            assert_eq!(within(&[never]), ips(&[]), "{never}");
        }
    }
}
