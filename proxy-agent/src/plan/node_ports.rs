// SPDX-License-Identifier: Apache-2.0
//! At which of the node's addresses node ports are served (kube-proxy's `--nodeport-addresses`).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use proxy_common::{Family, V4, V6, family::Address as _};

use crate::model::Node;

/// At which of the node's addresses node ports are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The Node's own address of each family: what its object says, first of all; but in the family of this one, this
    /// one, if there is any (kube-proxy's `bindAddress`).
    Primary(Option<IpAddr>),
    /// All that the host has within these ranges. In a family without a range, all that it has.
    Within(Vec<IpNet>),
}

impl Default for NodePortAddresses {
    fn default() -> Self {
        Self::Primary(None)
    }
}

impl NodePortAddresses {
    /// Whether processes of the node find node ports at loopback addresses of a family, too: unless
    /// ranges of it are named that have none.
    #[must_use]
    pub fn include_loopback<F: Family>(&self) -> bool {
        let has_loopback = |range: &IpNet| range.addr().is_loopback() || range.prefix_len() == 0;
        match self {
            Self::Primary(_) => true,
            Self::Within(ranges) => {
                of_family::<F>(ranges).is_none_or(|mut own| own.any(has_loopback))
            }
        }
    }
}

/// The ranges of a family. Nothing if there are none, which stands for all its addresses
/// (`NewNodePortAddresses` in `pkg/proxy/util/nodeport_addresses.go`, Kubernetes 1.36).
fn of_family<F: Family>(ranges: &[IpNet]) -> Option<impl Iterator<Item = &IpNet>> {
    let is_own = |range: &&IpNet| F::Addr::from_ip(range.addr()).is_some();
    let mut own = ranges.iter().filter(is_own).peekable();
    own.peek().is_some().then_some(own)
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
        NodePortAddresses::Primary(own) => {
            [primary::<V4>(*own, node), primary::<V6>(*own, node)].into_iter().flatten().collect()
        }
        NodePortAddresses::Within(ranges) => {
            let within = [within::<V4>(ranges, local), within::<V6>(ranges, local)];
            within.into_iter().flatten().filter(|ip| is_reachable(*ip)).collect()
        }
    }
}

/// The addresses of a family that are in its ranges.
fn within<F: Family>(ranges: &[IpNet], local: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
    let served: Option<Vec<_>> = of_family::<F>(ranges).map(Iterator::collect);
    let is_served = |ip: &IpAddr| {
        served.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.contains(ip)))
    };
    let own = local.iter().copied().filter(|ip| F::Addr::from_ip(*ip).is_some());
    own.filter(is_served).collect()
}

/// The addresses at which health checks of load balancers are answered, where node ports are served
/// at these: as in kube-proxy, which restricts itself less there (`newServiceHealthServer` in
/// `pkg/proxy/healthcheck/service_health.go`, Kubernetes 1.36).
///
/// A family whose addresses are all named, or of which no range is, has its unspecified address in
/// their place: everything that the node has, loopback and link-local addresses included. Elsewhere
/// a loopback address is one of the host's, if a range holds it.
#[must_use]
pub fn health_check_addresses(
    served: &NodePortAddresses,
    node_ports: &BTreeSet<IpAddr>,
) -> BTreeSet<IpAddr> {
    let NodePortAddresses::Within(ranges) = served else {
        return node_ports.clone();
    };
    let unspecified = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let all = [has_all::<V4>(ranges), has_all::<V6>(ranges)];
    let is_restricted = |ip: &&IpAddr| !all[usize::from(ip.is_ipv6())];
    let named = |ip: &&IpAddr| ranges.iter().any(|range| range.contains(*ip));
    let everywhere = unspecified.iter().filter(|ip| !is_restricted(ip));
    let some = node_ports.iter().chain(loopback.iter().filter(named)).filter(is_restricted);
    everywhere.chain(some).copied().collect()
}

/// Whether a family is not restricted: one of its ranges is all of it, or it has none.
fn has_all<F: Family>(ranges: &[IpNet]) -> bool {
    of_family::<F>(ranges).is_none_or(|mut own| own.any(|range| range.prefix_len() == 0))
}

fn primary<F: Family>(own: Option<IpAddr>, node: Option<&Node>) -> Option<IpAddr> {
    let own = own.and_then(F::Addr::from_ip);
    own.or_else(|| node?.primary_address::<F>()).map(Into::into)
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
        let within = |ranges: &[&str]| {
            let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
            both(&NodePortAddresses::Within(ranges))
        };
        assert_eq!(both(&NodePortAddresses::default()), [true, true]);
        for (of_v4, of_v6, included) in [
            ("0.0.0.0/0", "::/0", true),
            ("127.0.0.0/8", "::1/128", true),
            ("192.0.2.0/24", "2001:db8::/64", false),
        ] {
            assert_eq!(within(&[of_v4, of_v6]), [included; 2]);
            // A family without a range has all its addresses.
            assert_eq!(within(&[of_v4]), [included, true]);
            assert_eq!(within(&[of_v6]), [true, included]);
        }
        assert_eq!(within(&["192.0.2.0/24", "127.0.0.1/32", "fd00::/8"]), [true, false]);
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
        for (own, expected) in [
            ("192.0.2.9", ["192.0.2.9", "2001:db8::7"]),
            ("2001:db8::9", ["192.0.2.7", "2001:db8::9"]),
        ] {
            let primary = NodePortAddresses::Primary(Some(own.parse().unwrap()));
            assert_eq!(node_port_addresses(&primary, Some(&node), &local), ips(&expected));
            assert_eq!(node_port_addresses(&primary, None, &local), ips(&[own]));
        }
    }

    #[test]
    fn ranges_choose_among_the_addresses_of_the_host() {
        let within = |ranges: &[&str]| {
            let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
            node_port_addresses(&NodePortAddresses::Within(ranges), None, &ips(&LOCAL))
        };
        let (v4, v6) = (["192.0.2.1", "192.0.2.2", "198.51.100.1"], ["2001:db8::1"]);
        let and = |some: &[&str], others: &[&str]| &ips(some) | &ips(others);
        assert_eq!(within(&["192.0.2.0/24", "2001:db8::/64"]), and(&v4[..2], &v6));
        assert_eq!(within(&["0.0.0.0/0", "::/0"]), and(&v4, &v6));
        // In a family without a range, all.
        assert_eq!(within(&["192.0.2.0/31"]), and(&v4[..1], &v6));
        assert_eq!(within(&["fd00::/8"]), ips(&v4));
        for never in ["127.0.0.0/8", "169.254.0.0/16"] {
            assert_eq!(within(&[never]), ips(&v6), "{never}");
        }
        for never in ["::1/128", "fe80::/10"] {
            assert_eq!(within(&[never]), ips(&v4), "{never}");
        }
    }

    #[test]
    fn health_checks_are_answered_everywhere_in_families_without_restriction() {
        let node_ports = ips(&["192.0.2.1", "2001:db8::1"]);
        assert_eq!(health_check_addresses(&NodePortAddresses::default(), &node_ports), node_ports);
        let within = |ranges: &[&str]| {
            let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
            health_check_addresses(&NodePortAddresses::Within(ranges), &node_ports)
        };
        let one_of_each = ["192.0.2.0/24", "2001:db8::/64"];
        assert_eq!(within(&one_of_each), node_ports);
        assert_eq!(within(&["0.0.0.0/0", "::/0"]), ips(&["0.0.0.0", "::"]));
        // A family without a range has everything.
        assert_eq!(within(&[]), ips(&["0.0.0.0", "::"]));
        assert_eq!(within(&one_of_each[..1]), ips(&["192.0.2.1", "::"]));
        assert_eq!(within(&one_of_each[1..]), ips(&["0.0.0.0", "2001:db8::1"]));
        for (all, expected) in
            [("0.0.0.0/0", ["0.0.0.0", "2001:db8::1"]), ("::/0", ["192.0.2.1", "::"])]
        {
            let ranges = [one_of_each.as_slice(), &[all]].concat();
            assert_eq!(within(&ranges), ips(&expected), "{all}");
        }
        let named = within(&["192.0.2.0/24", "127.0.0.0/8", "2001:db8::/64", "::1/128"]);
        assert_eq!(named, &node_ports | &ips(&["127.0.0.1", "::1"]));
    }
}
