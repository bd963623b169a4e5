// SPDX-License-Identifier: Apache-2.0

use std::collections::{BTreeMap, BTreeSet};

use super::{Role, classify};
use crate::devices::{
    patterns::Patterns,
    snapshot::{Link, LinkHeader, LinkKind, MAIN_TABLE, Route, Snapshot, Standing},
};

/// A device in a table of cases.
#[derive(Clone, Copy)]
struct Case {
    kind: LinkKind,
    peer_elsewhere: bool,
    master: Option<LinkKind>,
    /// What it stands on.
    below: Option<LinkKind>,
    /// The tables of its default routes.
    default_routes: &'static [u32],
    /// Whether it has one that can be routed to.
    address: bool,
    /// Whether that is one of the Node's.
    node_address: bool,
    header: LinkHeader,
}

impl Case {
    const fn of(kind: LinkKind) -> Self {
        Self {
            kind,
            peer_elsewhere: false,
            master: None,
            below: None,
            default_routes: &[],
            address: true,
            node_address: false,
            header: LinkHeader::Ethernet,
        }
    }

    const fn with(mut self, header: LinkHeader) -> Self {
        self.header = header;
        self
    }

    const fn pod() -> Self {
        let mut pod = Self::of(LinkKind::Pair);
        pod.peer_elsewhere = true;
        pod
    }

    const fn part_of(mut self, master: LinkKind) -> Self {
        self.master = Some(master);
        self
    }

    const fn default_route(mut self, tables: &'static [u32]) -> Self {
        self.default_routes = tables;
        self
    }

    const fn on(mut self, below: LinkKind) -> Self {
        self.below = Some(below);
        self
    }

    const fn without_address(mut self) -> Self {
        self.address = false;
        self
    }

    const fn node_address(mut self) -> Self {
        self.node_address = true;
        self
    }
}

const DEVICE: u32 = 7;
const MASTER: u32 = 8;
const BELOW: u32 = 9;

fn link(name: &str, kind: LinkKind) -> Link {
    Link {
        header: LinkHeader::Ethernet,
        name: name.to_owned(),
        kind,
        master: None,
        mac: [2, 0, 0, 0, 0, 1],
        counterpart: None,
        counterpart_elsewhere: false,
        vlan: None,
        up: true,
    }
}

/// The device of a case in a snapshot, in the family of which the addresses are.
fn snapshot(case: Case, unspecified: &str, address: &str) -> Snapshot {
    let mut device = link("dev0", case.kind);
    device.counterpart_elsewhere = case.peer_elsewhere;
    device.header = case.header;
    device.master = case.master.map(|_| MASTER);
    device.counterpart = case.below.map(|_| BELOW);
    let mut links = BTreeMap::from([(DEVICE, device)]);
    links.extend(case.master.map(|kind| (MASTER, link("master0", kind))));
    links.extend(case.below.map(|kind| (BELOW, link("below0", kind))));
    let route = |table| Route {
        prefix_length: 0,
        destination: unspecified.parse().unwrap(),
        table,
        metric: 0,
    };
    let address = address.parse().unwrap();
    let node_addresses =
        if case.node_address { BTreeSet::from([address]) } else { BTreeSet::new() };
    let addresses = BTreeMap::from([(DEVICE, BTreeMap::from([(address, Standing::Preferred)]))]);
    Snapshot {
        backups: BTreeSet::new(),
        links,
        addresses: if case.address { addresses } else { BTreeMap::new() },
        routes: BTreeMap::from([(
            DEVICE,
            case.default_routes.iter().map(|table| route(*table)).collect(),
        )]),
        node_addresses,
    }
}

fn roles_in_both_families(case: Case) -> [Option<Role>; 2] {
    [("0.0.0.0", "192.0.2.1"), ("::", "2001:db8::1")].map(|(unspecified, address)| {
        let snapshot = snapshot(case, unspecified, address);
        classify(&snapshot, &Patterns::none()).get(&DEVICE).copied()
    })
}

#[test]
fn devices_have_roles_by_what_they_are() {
    use LinkKind::{Bond, Bridge, Inner, Loopback, Other, Pair, Tap, Tunnel, Vrf};
    const MAIN: &[u32] = &[MAIN_TABLE];
    let nic = Case::of(Other);
    let pod = Case::pod();
    let uplinks = [
        ("a NIC with a default route", nic.default_route(MAIN)),
        ("a NIC chosen by rules", nic.default_route(&[2])),
        ("a NIC with a Node address", nic.node_address()),
        ("a NIC with another address", nic),
        ("a NIC of packets with an address", nic.with(LinkHeader::None)),
        ("a NIC with an address in a VRF", nic.part_of(Vrf)),
        ("a bond with an address", Case::of(Bond)),
        ("a VLAN with an address", nic.on(Other)),
        ("a VLAN of a bond with an address", nic.on(Bond)),
        ("a VLAN of a bridge with a Node address", nic.on(Bridge).node_address()),
        ("a VLAN of a bridge with a default route", nic.on(Bridge).default_route(MAIN)),
        ("a NIC with a default route alone", nic.without_address().default_route(MAIN)),
        ("a dummy with a Node address", Case::of(Inner).node_address()),
        ("a NIC in a VRF", nic.part_of(Vrf).node_address()),
        ("a bridge out", Case::of(Bridge).default_route(MAIN)),
        ("a bond out", Case::of(Bond).default_route(MAIN)),
        ("a kind node's eth0", pod.default_route(MAIN)),
        ("the same before its routes", pod.node_address()),
        ("a VPN by tap", Case::of(Tap).default_route(MAIN)),
        ("a tunnel out", Case::of(Tunnel).default_route(MAIN)),
    ];
    let tunnels = [
        ("an overlay", Case::of(Tunnel)),
        ("an overlay without address", Case::of(Tunnel).without_address()),
        ("an overlay of packets", Case::of(Tunnel).with(LinkHeader::None)),
        ("an overlay in a VRF", Case::of(Tunnel).part_of(Vrf)),
    ];
    let workloads = [
        ("a pod", pod),
        ("a pod without the host's address", pod.without_address()),
        ("a pod on a bridge", pod.part_of(Bridge)),
        ("a pod in a VRF", pod.part_of(Vrf)),
        ("an egress gateway pod", pod.default_route(&[100])),
        ("a machine", Case::of(Tap)),
        ("a machine on a bridge", Case::of(Tap).part_of(Bridge)),
        ("a pod on a switch of its own kind", pod.part_of(Other)),
    ];
    let others = [
        ("a NIC with nothing", nic.without_address()),
        ("a bond with nothing", Case::of(Bond).without_address()),
        ("a NIC in a bridge", nic.part_of(Bridge)),
        ("a leg of a bond with an address", nic.part_of(Bond)),
        ("a dummy with addresses of Services", Case::of(Inner)),
        ("a VRF with an address", Case::of(Vrf)),
        ("a leg of a bond", nic.part_of(Bond).default_route(MAIN)),
        ("a bond's leg that is a veth", pod.part_of(Bond)),
        ("a bridge for pods, with the gateway's address", Case::of(Bridge)),
        ("a VLAN of a bridge for pods, with the gateway's address", nic.on(Bridge)),
        ("an end of a pair between parts of the node", Case::of(Pair).on(Pair)),
        ("loopback", Case::of(Loopback).node_address()),
        ("a veth of two bridges", Case::of(Pair).part_of(Bridge)),
        ("a tunnel between a bridge's ports", Case::of(Tunnel).part_of(Bridge)),
        ("InfiniBand out", nic.with(LinkHeader::Other).default_route(MAIN)),
        ("GRE with headers of its own", Case::of(Tunnel).with(LinkHeader::Other)),
    ];
    let have = |role, cases: &[(&str, Case)]| {
        for (name, case) in cases {
            assert_eq!(roles_in_both_families(*case), [role; 2], "{name}");
        }
    };
    have(Some(Role::Uplink), &uplinks);
    have(Some(Role::Tunnel), &tunnels);
    have(Some(Role::Workload), &workloads);
    have(None, &others);
}

#[test]
fn patterns_override_what_a_device_is() {
    let roles = |exclude: &[&str], include: &[&str], case| {
        let exclude: Vec<_> = exclude.iter().map(|text| text.parse().unwrap()).collect();
        let include: Vec<_> = include.iter().map(|text| text.parse().unwrap()).collect();
        let patterns = Patterns::new(&exclude, &include).unwrap();
        classify(&snapshot(case, "::", "2001:db8::1"), &patterns)
    };
    let (nic, pod) = (Case::of(LinkKind::Other), Case::pod());
    assert_eq!(roles(&["dev*"], &[], pod), BTreeMap::new());
    assert_eq!(roles(&["dev*"], &["dev0"], pod), BTreeMap::new());
    let included = BTreeMap::from([(DEVICE, Role::Workload)]);
    assert_eq!(roles(&[], &["dev?"], nic), included);
    let included = BTreeMap::from([(DEVICE, Role::Uplink)]);
    assert_eq!(roles(&[], &["uplink=dev0"], pod), included);
    let loopback = Case::of(LinkKind::Loopback);
    assert_eq!(roles(&[], &["*"], loopback), BTreeMap::new());
}
