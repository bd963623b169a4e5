// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeSet;

use proxy_common::device::Wire;

use super::{Driven, Xdp, XdpChoice, XdpModes};
use crate::devices::snapshot::{Link, LinkHeader, LinkKind, Snapshot};

const UPLINK: u32 = 2;
const LOWER: u32 = 3;
const LEGS: [u32; 2] = [4, 5];

fn modes(choices: &[&str]) -> XdpModes {
    let choices: Vec<XdpChoice> = choices.iter().map(|text| text.parse().unwrap()).collect();
    XdpModes::new(&choices)
}

fn link(name: &str, kind: LinkKind) -> Link {
    Link {
        name: name.to_owned(),
        kind,
        master: None,
        mac: [2, 0, 0, 0, 0, 1],
        header: LinkHeader::Ethernet,
        counterpart: None,
        counterpart_elsewhere: false,
        vlan: None,
        up: true,
    }
}

/// Where the program of this uplink runs.
fn mode(modes: &XdpModes, uplink: Link) -> Xdp {
    let snapshot = Snapshot { links: [(UPLINK, uplink)].into(), ..Snapshot::default() };
    let driven = modes.of(&snapshot, UPLINK);
    driven.map_or(Xdp::Off, |driven| {
        assert_eq!((driven.device, driven.vlan), (UPLINK, 0));
        driven.mode
    })
}

#[test]
fn a_veth_must_be_named() {
    let all = modes(&["native"]);
    assert_eq!(mode(&all, link("eth0", LinkKind::Other)), Xdp::Native);
    assert_eq!(mode(&all, link("bond0", LinkKind::Bond)), Xdp::Native);
    assert_eq!(mode(&all, link("eth0", LinkKind::Pair)), Xdp::Off);
    assert_eq!(mode(&all, link("br0", LinkKind::Bridge)), Xdp::Off);
    assert_eq!(mode(&modes(&["native=eth*"]), link("eth0", LinkKind::Pair)), Xdp::Native);
    let bare = Link { header: LinkHeader::None, ..link("eth0", LinkKind::Other) };
    assert_eq!(mode(&modes(&["generic=eth*"]), bare), Xdp::Off);
}

#[test]
fn the_first_glob_that_fits_decides() {
    let some = modes(&["off=eth1", "generic=eth*", "native"]);
    let of = |name| mode(&some, link(name, LinkKind::Other));
    assert_eq!([of("eth1"), of("eth2"), of("ens1")], [Xdp::Off, Xdp::Generic, Xdp::Native]);
}

#[test]
fn it_is_off_unless_somebody_wants_it() {
    assert!(modes(&[]).are_off() && modes(&["off", "off=eth*"]).are_off());
    assert!(!modes(&["native"]).are_off() && !modes(&["generic=eth0"]).are_off());
    assert_eq!(mode(&modes(&[]), link("eth0", LinkKind::Other)), Xdp::Off);
}

/// A VLAN on this kind of device, which has two legs if it is a bond.
fn vlan_on(kind: LinkKind, legs: LinkKind) -> Snapshot {
    let vlan = Link { vlan: Some(50), counterpart: Some(LOWER), ..link("vlan50", LinkKind::Other) };
    let leg = |name| Link { master: Some(LOWER), ..link(name, legs) };
    let links = [(UPLINK, vlan), (LOWER, link("below", kind))];
    let legs = LEGS.into_iter().zip([leg("leg0"), leg("leg1")]);
    let has_legs = kind == LinkKind::Bond;
    let links = links.into_iter().chain(legs.filter(|_| has_legs)).collect();
    Snapshot { links, ..Snapshot::default() }
}

#[test]
fn frames_of_a_vlan_come_by_the_driver_below() {
    let snapshot = vlan_on(LinkKind::Other, LinkKind::Other);
    let driven = modes(&["native"]).of(&snapshot, UPLINK).unwrap();
    let legs = BTreeSet::new();
    let expected = Driven {
        mode: Xdp::Native,
        device: LOWER,
        name: "below".to_owned(),
        receivers: vec!["below".to_owned()],
        vlan: 50,
        legs,
        is_stacked: false,
        has_vlans: true,
        delivers_by_others: false,
    };
    assert_eq!(driven, expected);
    assert_eq!(driven.wires().collect::<Vec<_>>(), [Wire::new(LOWER, 50)]);
    // Below may be a veth, too.
    let on_veth = vlan_on(LinkKind::Pair, LinkKind::Other);
    assert_eq!(modes(&["native"]).of(&on_veth, UPLINK), None);
    assert!(modes(&["native=vlan*"]).of(&on_veth, UPLINK).is_some());
}

#[test]
fn frames_of_a_bond_come_by_its_legs() {
    let snapshot = vlan_on(LinkKind::Bond, LinkKind::Other);
    let driven = modes(&["native"]).of(&snapshot, UPLINK).unwrap();
    assert_eq!(driven.wire(), Wire::new(LOWER, 50));
    // Their hardware takes tags off, whatever the bond is told.
    assert_eq!(driven.receivers, ["leg0", "leg1"]);
    assert!(driven.has_vlans && driven.delivers_by_others);
    let wires = [LEGS[0], LEGS[1], LOWER].map(|device| Wire::new(device, 50));
    assert_eq!(driven.wires().collect::<Vec<_>>(), wires);
    let in_reserve = Snapshot { backups: [LEGS[0]].into(), ..snapshot };
    let driven = modes(&["native"]).of(&in_reserve, UPLINK).unwrap();
    let wires = [LEGS[1], LOWER].map(|device| Wire::new(device, 50));
    assert_eq!(driven.wires().collect::<Vec<_>>(), wires);
    assert_eq!(driven.receivers, ["leg0", "leg1"]);
    let of_veths = vlan_on(LinkKind::Bond, LinkKind::Pair);
    assert_eq!(modes(&["native"]).of(&of_veths, UPLINK), None);
}

#[test]
fn nothing_runs_behind_the_driver_of_a_stacked_device() {
    let is_stacked = |choice: &str, uplink: Link| {
        let mut links = vlan_on(LinkKind::Other, LinkKind::Other).links;
        let _: Option<Link> = links.insert(UPLINK, uplink);
        let snapshot = Snapshot { links, ..Snapshot::default() };
        modes(&[choice]).of(&snapshot, UPLINK).unwrap().is_stacked
    };
    let on_lower = |vlan| Link { vlan, counterpart: Some(LOWER), ..link("up", LinkKind::Other) };
    assert!(is_stacked("generic", on_lower(Some(50))));
    // A macvlan.
    assert!(is_stacked("generic", on_lower(None)));
    for kind in [LinkKind::Bond, LinkKind::Bridge, LinkKind::Tunnel] {
        assert!(is_stacked("generic=up", link("up", kind)));
        assert!(!is_stacked("native=up", link("up", kind)));
    }
    assert!(!is_stacked("native", on_lower(Some(50))));
    assert!(!is_stacked("generic", link("eth0", LinkKind::Other)));
    // The other end of a pair is nothing below it.
    let veth = Link { counterpart: Some(LOWER), ..link("up", LinkKind::Pair) };
    assert!(!is_stacked("generic=up", veth));
}

#[test]
fn a_bad_choice_is_explained() {
    let said = |text: &str| text.parse::<XdpChoice>().unwrap_err().to_string();
    assert_eq!(said("on"), "on is no mode of XDP: these are off, native and generic");
    assert!(said("native=[a").contains("unclosed character class"), "{}", said("native=[a"));
}
