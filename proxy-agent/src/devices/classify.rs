// SPDX-License-Identifier: Apache-2.0
//! Which device plays which role: by what it is, not by how it is called.

use std::collections::BTreeMap;

use super::{
    patterns::{Patterns, Verdict},
    snapshot::{Link, LinkHeader, LinkKind, MAIN_TABLE, Snapshot},
};

/// What a device is for, and so what is done on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Leads out of the node: holds a default route or an address of the Node, or is like a NIC
    /// and has an address of the host.
    Uplink,
    /// Leads to other nodes inside of other packets.
    Tunnel,
    /// Leads to one pod (or virtual machine).
    Workload,
}

impl Role {
    /// All roles; where a device could have several, it has the first.
    pub const BY_PRECEDENCE: [Self; 3] = [Self::Uplink, Self::Tunnel, Self::Workload];

    /// Its name in flags, logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
            Self::Tunnel => "tunnel",
            Self::Workload => "workload",
        }
    }
}

/// The roles of all devices that have one, by interface index.
#[must_use]
pub fn classify(snapshot: &Snapshot, patterns: &Patterns) -> BTreeMap<u32, Role> {
    let links = snapshot.links.iter();
    links
        .filter_map(|(&index, link)| Some((index, role(snapshot, patterns, index, link)?)))
        .collect()
}

fn role(snapshot: &Snapshot, patterns: &Patterns, index: u32, link: &Link) -> Option<Role> {
    if link.kind == LinkKind::Loopback || link.header == LinkHeader::Other {
        return None;
    }
    match patterns.verdict(&link.name) {
        Verdict::Excluded => return None,
        Verdict::Included(role) => return Some(role),
        Verdict::Open => {}
    }
    let leads_to_pod = match link.kind {
        LinkKind::Pair => link.counterpart_elsewhere,
        LinkKind::Tap => true,
        _ => false,
    };
    let enslaved = enslaved(snapshot, link);
    let is_uplink =
        leads_out(snapshot, index, leads_to_pod) || joins_network(snapshot, index, link);
    if !enslaved && is_uplink {
        Some(Role::Uplink)
    } else if link.kind == LinkKind::Tunnel {
        // What goes through a bridge's port is between others, and not the node's.
        (!enslaved).then_some(Role::Tunnel)
    } else {
        // The legs of a bond may be veths where the node is itself a container.
        (leads_to_pod && !is_part_of(snapshot, link, |kind| kind == LinkKind::Bond))
            .then_some(Role::Workload)
    }
}

/// Whether packets of this device belong to another one: its bridge or bond, but not its VRF.
fn enslaved(snapshot: &Snapshot, link: &Link) -> bool {
    is_part_of(snapshot, link, |kind| kind != LinkKind::Vrf)
}

/// Whether it is a part of a device of a kind; one that is not known counts as none in particular.
fn is_part_of(snapshot: &Snapshot, link: &Link, of: impl Fn(LinkKind) -> bool) -> bool {
    let kind = |master: u32| snapshot.links.get(&master).map_or(LinkKind::Other, |it| it.kind);
    link.master.is_some_and(|master| of(kind(master)))
}

/// Whether a device out is one of those by which the node is found first of all.
pub(super) fn leads_out(snapshot: &Snapshot, index: u32, leads_to_pod: bool) -> bool {
    // A default route in a table of its own, over a pod, is an egress gateway: still a pod.
    // Over anything else it is one of several uplinks, chosen by rules.
    let default_route =
        snapshot.default_routes(index).any(|route| !leads_to_pod || route.table == MAIN_TABLE);
    let addresses = snapshot.addresses.get(&index);
    default_route
        || addresses.is_some_and(|addresses| {
            let mut addresses = addresses.keys();
            addresses.any(|address| snapshot.node_addresses.contains(address))
        })
}

/// Whether it joins the node to a network: like a NIC, with an address there by which others find the
/// node. That of a bridge, of what stands on one (a VLAN of pods) and of a veth pair between parts of
/// the node (`cilium_host`) is a gateway's rather, and that of a dummy is for the node itself.
fn joins_network(snapshot: &Snapshot, index: u32, link: &Link) -> bool {
    let below = link.counterpart.filter(|_| !link.counterpart_elsewhere);
    let below = below.and_then(|below| snapshot.links.get(&below));
    matches!(link.kind, LinkKind::Bond | LinkKind::Other)
        && below.is_none_or(|below| below.kind != LinkKind::Bridge)
        && snapshot.addresses.contains_key(&index)
}

#[cfg(test)]
mod tests;
