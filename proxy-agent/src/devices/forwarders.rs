// SPDX-License-Identifier: Apache-2.0
//! The devices by which packets of pods, and the answers to them, reach the host's routing.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    classify::{Role, leads_out},
    served::{HostAddresses, host_side},
    snapshot::Snapshot,
};

/// What the host must forward, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarders {
    /// The names of the devices: bridges of pods, devices of pods that are no ports of one,
    /// uplinks that lead out, tunnels. What an uplink beside these lets through concerns its own
    /// clients, and is the operator's to say.
    pub devices: BTreeSet<String>,
    /// Those of them that are bridges of pods.
    pub bridges: BTreeSet<String>,
    /// Whether the node is of a family, at the [`INDEX`](proxy_common::Family::INDEX) of each: by
    /// the addresses of its Node object, and of its devices towards pods.
    pub in_use: [bool; 2],
}

/// Finds them.
pub(super) fn forwarders(snapshot: &Snapshot, roles: &BTreeMap<u32, Role>) -> Forwarders {
    let workloads = roles.iter().filter(|(_, role)| **role == Role::Workload);
    let host_sides: BTreeSet<_> = workloads.map(|(index, _)| host_side(snapshot, *index)).collect();
    let bridges = host_sides.iter().copied().filter(|index| !roles.contains_key(index));
    let others = roles.iter().filter(|(index, role)| match role {
        Role::Workload => false,
        Role::Tunnel => true,
        Role::Uplink => leads_out(snapshot, **index, false),
    });
    let others = others.map(|(index, _)| *index);
    let in_use = HostAddresses::FAMILIES.map(|is_of_family| {
        let mut host_sides = host_sides.iter();
        snapshot.node_addresses.iter().any(is_of_family)
            || host_sides.any(|index| snapshot.best_address(*index, is_of_family).is_some())
    });
    let name = |index| Some(snapshot.links.get(&index)?.name.clone());
    Forwarders {
        devices: host_sides.iter().copied().chain(others).filter_map(name).collect(),
        bridges: bridges.filter_map(name).collect(),
        in_use,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::snapshot::{Link, LinkHeader, LinkKind, MAIN_TABLE, Route, Standing};

    /// The device that has the default route.
    const OUT: &str = "eth0";

    /// A device, its role, and its bridge.
    fn node<const N: usize>(
        devices: [(&str, LinkKind, Option<Role>, Option<u32>); N],
    ) -> Forwarders {
        let mut snapshot = Snapshot::default();
        let mut roles = BTreeMap::new();
        for (index, (name, kind, role, master)) in (1..).zip(devices) {
            if name == OUT {
                let destination = "0.0.0.0".parse().expect("an address");
                let route = Route { prefix_length: 0, destination, table: MAIN_TABLE, metric: 0 };
                let _ = snapshot.routes.insert(index, [route].into());
            }
            let name = name.to_owned();
            let (mac, counterpart_elsewhere) = ([2; 6], role == Some(Role::Workload));
            let link = Link {
                header: LinkHeader::Ethernet,
                name,
                kind,
                master,
                mac,
                counterpart: None,
                counterpart_elsewhere,
                vlan: None,
                up: true,
            };
            let _ = snapshot.links.insert(index, link);
            roles.extend(role.map(|role| (index, role)));
        }
        let address = ("10.244.1.1".parse().expect("an address"), Standing::Preferred);
        let _ = snapshot.addresses.insert(1, BTreeMap::from([address]));
        forwarders(&snapshot, &roles)
    }

    #[test]
    fn ports_are_forwarded_by_their_bridge() {
        let node = node([
            ("cni0", LinkKind::Bridge, None, None),
            ("veth0", LinkKind::Pair, Some(Role::Workload), Some(1)),
            ("cali0", LinkKind::Pair, Some(Role::Workload), None),
            (OUT, LinkKind::Other, Some(Role::Uplink), None),
            ("storage0", LinkKind::Other, Some(Role::Uplink), None),
            ("flannel.1", LinkKind::Tunnel, Some(Role::Tunnel), None),
            ("docker0", LinkKind::Bridge, None, None),
        ]);
        let expected = ["cali0", "cni0", OUT, "flannel.1"].map(str::to_owned);
        assert_eq!(node.devices, BTreeSet::from(expected));
        assert_eq!(node.bridges, BTreeSet::from(["cni0".to_owned()]));
        assert_eq!(node.in_use, [true, false]);
    }
}
