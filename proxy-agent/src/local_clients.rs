// SPDX-License-Identifier: Apache-2.0
//! Which clients count as the node's own pods (kube-proxy's `detectLocalMode`): they are served from
//! all nodes whatever `externalTrafficPolicy` says, and keep their address at cluster IPs.

use ipnet::IpNet;
use proxy_common::{Family, family::Address as _, locality::Locality};

/// How the node's own pods are told from other clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalClients {
    /// By the devices that they come by: those that lead to pods.
    #[default]
    ByRole,
    /// By the devices that they come by: this bridge and what it joins.
    ByBridge(String),
    /// By the devices that they come by: those whose names begin so, or the bridges that these are
    /// ports of.
    ByNamePrefix(String),
    /// By their addresses: the first range of each family.
    Within(Vec<IpNet>),
    /// By their addresses: the ranges that the own Node's pods have theirs from.
    WithinNode,
}

/// How that is told to the programs, for one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detection {
    /// How the node's own pods are told from other clients.
    pub local: LocalClients,
    /// Whether these, too, are masqueraded at cluster IPs where their packets leave the node.
    pub masquerades_all: bool,
}

impl Detection {
    /// The row of a family, on a Node whose pods have these ranges. Where no range of the family is
    /// known, devices tell.
    #[must_use]
    pub fn row<F: Family>(&self, pod_cidrs: &[IpNet]) -> Locality<F> {
        let ranges = match &self.local {
            LocalClients::Within(ranges) => ranges,
            LocalClients::WithinNode => pod_cidrs,
            _ => &[][..],
        };
        let range = ranges.iter().find_map(|range| {
            let (prefix, mask) = (range.network(), range.netmask());
            // A range of all addresses would tell nothing apart.
            (range.prefix_len() > 0)
                .then_some(F::Addr::from_ip(prefix).zip(F::Addr::from_ip(mask)))
                .flatten()
        });
        let mut row = Locality::of_devices();
        if let Some((prefix, mask)) = range {
            row = Locality { prefix, mask, ..row };
        }
        row.masquerades_all = u32::from(self.masquerades_all);
        row
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::{V4, V6};

    use super::*;

    fn cidrs(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn tells<F: Family>(row: &Locality<F>, client: &str) -> Option<bool> {
        row.of_address(&F::Addr::from_ip(client.parse().unwrap()).unwrap())
    }

    #[test]
    fn the_first_range_of_each_family_counts() {
        let ranges = cidrs(&["fd00:10:244::/56", "10.244.0.0/16", "10.99.0.0/16"]);
        let local = LocalClients::Within(ranges);
        let detection = Detection { local, masquerades_all: false };
        let (v4, v6) = (detection.row::<V4>(&[]), detection.row::<V6>(&[]));
        assert_eq!(tells(&v4, "10.244.3.4"), Some(true));
        assert_eq!(tells(&v4, "10.99.3.4"), Some(false));
        assert_eq!(tells(&v6, "fd00:10:244:12::1"), Some(true));
        assert_eq!(tells(&v6, "fd00:10:244:112::1"), Some(false));
        assert_eq!((v4.masquerades_all, v6.masquerades_all), (0, 0));
    }

    #[test]
    fn where_no_range_is_known_devices_tell() {
        let one_family = LocalClients::Within(cidrs(&["10.244.0.0/16", "::/0"]));
        for local in [one_family, LocalClients::WithinNode, LocalClients::ByRole] {
            let row = Detection { local, masquerades_all: true }.row::<V6>(&[]);
            assert_eq!(tells(&row, "fd00::1"), None);
            assert_eq!(row.masquerades_all, 1);
        }
    }

    #[test]
    fn a_nodes_own_range_may_come_later() {
        let detection = Detection { local: LocalClients::WithinNode, masquerades_all: false };
        let row = detection.row::<V4>(&cidrs(&["fd00:10:244:1::/64", "10.244.1.0/24"]));
        assert_eq!(tells(&row, "10.244.1.9"), Some(true));
        assert_eq!(tells(&row, "10.244.2.9"), Some(false));
    }
}
