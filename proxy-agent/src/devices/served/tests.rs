// SPDX-License-Identifier: Apache-2.0

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proxy_common::{
    V4, V6,
    device::{Device, DeviceTraits},
};

use super::{HostAddresses, describe, host_side};
use crate::devices::{
    DeviceOptions, Patterns, XdpModes,
    classify::Role,
    snapshot::{Link, LinkHeader, LinkKind, MAIN_TABLE, Route, Snapshot, Standing},
};
use crate::local_clients::LocalClients;

const POD: u32 = 7;
const BRIDGE: u32 = 5;
/// By which nothing leads out.
const BESIDE: u32 = 1;
const UPLINK: u32 = 2;
const BRIDGE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

fn node() -> Snapshot {
    let link = |name: &str, kind, mac| Link {
        name: name.to_owned(),
        kind,
        master: None,
        mac,
        header: LinkHeader::Ethernet,
        counterpart: None,
        counterpart_elsewhere: kind == LinkKind::Pair,
        vlan: None,
        up: true,
    };
    let links = BTreeMap::from([
        (UPLINK, link("eth0", LinkKind::Other, [2; 6])),
        (BRIDGE, link("cni0", LinkKind::Bridge, BRIDGE_MAC)),
        (POD, link("veth0", LinkKind::Pair, [7; 6])),
    ]);
    Snapshot { links, ..Snapshot::default() }
}

fn give(snapshot: &mut Snapshot, device: u32, addresses: [&str; 2]) {
    let addresses = addresses.map(|address| (address.parse().unwrap(), Standing::Preferred));
    let _ = snapshot.addresses.insert(device, BTreeMap::from(addresses));
}

fn addresses(texts: [&str; 2]) -> HostAddresses {
    let mut addresses = HostAddresses::default();
    for text in texts {
        addresses.set(text.parse().unwrap());
    }
    addresses
}

fn both(of: HostAddresses) -> [Option<IpAddr>; 2] {
    [of.of::<V4>().map(Into::into), of.of::<V6>().map(Into::into)]
}

/// The pod's device, and its host addresses in both families.
fn pod(
    snapshot: &Snapshot,
    choices: &BTreeMap<u32, HostAddresses>,
) -> (Device, [Option<IpAddr>; 2]) {
    let [(device, addresses), _] = pod_and_uplink(snapshot, choices);
    (device, addresses)
}

/// An operator who has said whose clients are local, and nothing else.
fn options(local_clients: LocalClients) -> DeviceOptions {
    DeviceOptions { patterns: Patterns::none(), local_clients, xdp: XdpModes::default() }
}

/// The same of both devices.
fn pod_and_uplink(
    snapshot: &Snapshot,
    choices: &BTreeMap<u32, HostAddresses>,
) -> [(Device, [Option<IpAddr>; 2]); 2] {
    let roles = BTreeMap::from([(UPLINK, Role::Uplink), (POD, Role::Workload)]);
    let mut devices = describe(snapshot, &roles, choices, &options(LocalClients::ByRole));
    let pod = devices.remove(&POD).unwrap();
    assert_eq!(pod.name, "veth0");
    let uplink = devices.remove(&UPLINK).unwrap();
    assert_eq!(uplink.programs.role, Role::Uplink);
    assert!(devices.is_empty());
    [pod, uplink].map(|served| (served.device, both(served.host_addresses)))
}

fn some(texts: [&str; 2]) -> [Option<IpAddr>; 2] {
    texts.map(|text| Some(text.parse().unwrap()))
}

#[test]
fn a_bridge_port_is_known_by_its_bridge() {
    let mut snapshot = node();
    snapshot.links.get_mut(&POD).unwrap().master = Some(BRIDGE);
    give(&mut snapshot, BRIDGE, ["10.1.0.1", "2001:db8:1::1"]);
    assert_eq!(host_side(&snapshot, POD), BRIDGE);
    let expected = (
        Device::bridge_port(BRIDGE, BRIDGE_MAC).with_local_clients(true),
        some(["10.1.0.1", "2001:db8:1::1"]),
    );
    assert_eq!(pod(&snapshot, &BTreeMap::new()), expected);
}

#[test]
fn the_part_of_anything_else_is_routed() {
    let mut snapshot = node();
    snapshot.links.get_mut(&POD).unwrap().master = Some(UPLINK);
    assert_eq!(host_side(&snapshot, POD), POD);
    assert_eq!(
        pod(&snapshot, &BTreeMap::new()),
        (Device::routed().with_local_clients(true), [None; 2])
    );
}

#[test]
fn a_pair_of_its_own_is_an_end_of_a_pair() {
    let is_pair = |change: fn(&mut Link)| {
        let mut snapshot = node();
        change(snapshot.links.get_mut(&POD).unwrap());
        pod(&snapshot, &BTreeMap::new()).0.traits.has(DeviceTraits::PAIR)
    };
    assert!(is_pair(|_| {}));
    assert!(!is_pair(|link| link.kind = LinkKind::Tap));
    assert!(!is_pair(|link| link.master = Some(BRIDGE)));
    assert!(!is_pair(|link| link.master = Some(UPLINK)));
    assert!(!is_pair(|link| link.header = LinkHeader::None));
    assert!(!is_pair(|link| link.counterpart_elsewhere = false));
}

#[test]
fn own_addresses_then_the_kernels_choice_then_an_uplinks() {
    let mut snapshot = node();
    assert_eq!(pod(&snapshot, &BTreeMap::new()).1, [None; 2]);
    give(&mut snapshot, UPLINK, ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(pod(&snapshot, &BTreeMap::new()).1, some(["192.0.2.1", "2001:db8::1"]));
    let choices = BTreeMap::from([(POD, addresses(["192.0.2.9", "2001:db8::9"]))]);
    assert_eq!(pod(&snapshot, &choices).1, some(["192.0.2.9", "2001:db8::9"]));
    give(&mut snapshot, POD, ["10.1.0.1", "2001:db8:1::1"]);
    assert_eq!(pod(&snapshot, &choices).1, some(["10.1.0.1", "2001:db8:1::1"]));
}

#[test]
fn each_family_is_found_by_itself() {
    let mut snapshot = node();
    give(&mut snapshot, UPLINK, ["192.0.2.1", "2001:db8::1"]);
    let only = |text: &str| BTreeMap::from([(text.parse().unwrap(), Standing::Preferred)]);
    let _ = snapshot.addresses.insert(POD, only("10.1.0.1"));
    assert_eq!(pod(&snapshot, &BTreeMap::new()).1, some(["10.1.0.1", "2001:db8::1"]));
    let _ = snapshot.addresses.insert(POD, only("2001:db8:1::1"));
    assert_eq!(pod(&snapshot, &BTreeMap::new()).1, some(["192.0.2.1", "2001:db8:1::1"]));
}

#[test]
fn an_uplink_masquerades_as_the_node_before_anything_else() {
    let mut snapshot = node();
    let of_uplink = |snapshot: &Snapshot| pod_and_uplink(snapshot, &BTreeMap::new())[1];
    assert_eq!(of_uplink(&snapshot), (Device::uplink([2; 6]), [None; 2]));
    give(&mut snapshot, UPLINK, ["192.0.2.7", "2001:db8::7"]);
    assert_eq!(of_uplink(&snapshot).1, some(["192.0.2.7", "2001:db8::7"]));
    let more = ["192.0.2.1", "192.0.2.9", "2001:db8::1", "2001:db8::9"];
    let more = more.map(|address| (address.parse().unwrap(), Standing::Preferred));
    snapshot.addresses.entry(UPLINK).or_default().extend(more);
    assert_eq!(of_uplink(&snapshot).1, some(["192.0.2.1", "2001:db8::1"]));
    snapshot.node_addresses = BTreeSet::from([more[1].0, more[3].0]);
    assert_eq!(of_uplink(&snapshot).1, some(["192.0.2.9", "2001:db8::9"]));
}

#[test]
fn uplinks_that_lead_out_are_the_first_to_lend_addresses() {
    const LOOPBACK: u32 = 9;
    let mut snapshot = node();
    let beside = Link { name: "eth1".to_owned(), ..snapshot.links[&UPLINK].clone() };
    let _ = snapshot.links.insert(BESIDE, beside);
    give(&mut snapshot, BESIDE, ["198.51.100.1", "2001:db8:9::1"]);
    let roles = [BESIDE, UPLINK].map(|index| (index, Role::Uplink));
    let roles = roles.into_iter().chain([(POD, Role::Workload)]).collect();
    let lent = |snapshot: &Snapshot| {
        let devices = describe(snapshot, &roles, &BTreeMap::new(), &options(LocalClients::ByRole));
        both(devices[&POD].host_addresses)
    };
    assert_eq!(lent(&snapshot), some(["198.51.100.1", "2001:db8:9::1"]));
    give(&mut snapshot, LOOPBACK, ["192.0.2.7", "2001:db8::7"]);
    snapshot.node_addresses = ["192.0.2.7", "2001:db8::7"].map(|ip| ip.parse().unwrap()).into();
    assert_eq!(lent(&snapshot), some(["192.0.2.7", "2001:db8::7"]));
    give(&mut snapshot, UPLINK, ["192.0.2.1", "2001:db8::1"]);
    let default = |unspecified: &str| Route {
        prefix_length: 0,
        destination: unspecified.parse().unwrap(),
        table: MAIN_TABLE,
        metric: 0,
    };
    let _ = snapshot.routes.insert(UPLINK, ["0.0.0.0", "::"].map(default).into());
    assert_eq!(lent(&snapshot), some(["192.0.2.1", "2001:db8::1"]));
}

#[test]
fn uplinks_without_addresses_have_the_nodes() {
    const LOOPBACK: u32 = 1;
    let mut snapshot = node();
    give(&mut snapshot, LOOPBACK, ["192.0.2.7", "2001:db8::7"]);
    let both_of = |snapshot: &Snapshot| pod_and_uplink(snapshot, &BTreeMap::new()).map(|of| of.1);
    assert_eq!(both_of(&snapshot), [[None; 2]; 2]);
    snapshot.node_addresses = ["192.0.2.7", "2001:db8::7", "192.0.2.8", "2001:db8::8"]
        .map(|address| address.parse().unwrap())
        .into();
    assert_eq!(both_of(&snapshot), [some(["192.0.2.7", "2001:db8::7"]); 2]);
    give(&mut snapshot, UPLINK, ["192.0.2.1", "2001:db8::1"]);
    let expected = [["192.0.2.7", "2001:db8::7"], ["192.0.2.1", "2001:db8::1"]];
    assert_eq!(both_of(&snapshot), expected.map(some));
}

#[test]
fn whose_clients_are_local_may_be_told_by_names() {
    let mut snapshot = node();
    snapshot.links.get_mut(&POD).unwrap().master = Some(BRIDGE);
    let roles = BTreeMap::from([(UPLINK, Role::Uplink), (POD, Role::Workload)]);
    let are_local = |snapshot: &Snapshot, local: &LocalClients| {
        let devices = describe(snapshot, &roles, &BTreeMap::new(), &options(local.clone()));
        [POD, UPLINK].map(|index| devices[&index].device.traits.has(DeviceTraits::LOCAL_CLIENTS))
    };
    let by_bridge = |name: &str| LocalClients::ByBridge(name.to_owned());
    let by_prefix = |prefix: &str| LocalClients::ByNamePrefix(prefix.to_owned());
    for (local, expected) in [
        (LocalClients::ByRole, [true, false]),
        (by_bridge("cni0"), [true, false]),
        (by_bridge("cni1"), [false, false]),
        (by_bridge("eth0"), [false, true]),
        (by_prefix("cni"), [true, false]),
        (by_prefix("veth"), [false, false]),
        (by_prefix("eth"), [false, true]),
    ] {
        assert_eq!(are_local(&snapshot, &local), expected, "{local:?}");
    }
    // Routed, or a part of a VRF, it has a name of its own.
    for kind in [None, Some(LinkKind::Vrf)] {
        snapshot.links.get_mut(&BRIDGE).unwrap().kind = kind.unwrap_or(LinkKind::Bridge);
        snapshot.links.get_mut(&POD).unwrap().master = kind.map(|_| BRIDGE);
        assert_eq!(are_local(&snapshot, &by_prefix("veth")), [true, false], "{kind:?}");
        assert_eq!(are_local(&snapshot, &by_prefix("cni")), [false, false], "{kind:?}");
    }
}
