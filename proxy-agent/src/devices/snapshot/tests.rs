// SPDX-License-Identifier: Apache-2.0

use std::{collections::BTreeSet, net::IpAddr};

use super::{Aftermath, Change, Link, LinkHeader, LinkKind, MAIN_TABLE, Route, Snapshot, Standing};

fn link(kind: LinkKind) -> Link {
    Link {
        name: "dev".to_owned(),
        kind,
        master: None,
        mac: [0; 6],
        header: LinkHeader::Ethernet,
        counterpart: None,
        counterpart_elsewhere: false,
        vlan: None,
        up: true,
    }
}

fn route(destination: &str, prefix_length: u8) -> Route {
    Route { prefix_length, destination: destination.parse().unwrap(), table: MAIN_TABLE, metric: 0 }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What follows from the last of some changes.
fn last(snapshot: &mut Snapshot, changes: impl IntoIterator<Item = Change>) -> Aftermath {
    let mut aftermath = Aftermath::default();
    for change in changes {
        aftermath = Aftermath::default();
        snapshot.apply(change, &mut aftermath);
    }
    aftermath
}

#[test]
fn what_a_device_had_goes_with_it() {
    let mut snapshot = Snapshot::default();
    let changes = [
        Change::Link(3, link(LinkKind::Pair)),
        Change::Address(3, ip("10.0.0.1"), Some(Standing::Preferred)),
        Change::Route(3, route("10.0.0.2", 32)),
        Change::LinkGone(3),
    ];
    let aftermath = last(&mut snapshot, changes);
    assert_eq!(snapshot, Snapshot::default());
    let expected = Aftermath { gone: vec![3], readdressed: true, ..Aftermath::default() };
    assert_eq!(aftermath, expected);
}

#[test]
fn a_leg_is_in_reserve_until_it_is_told_of_otherwise() {
    let mut snapshot = Snapshot::default();
    let leg = || Change::Link(3, link(LinkKind::Other));
    let _ = last(&mut snapshot, [leg(), Change::Backup(3)]);
    assert_eq!(snapshot.backups, BTreeSet::from([3]));
    let _ = last(&mut snapshot, [leg()]);
    assert!(snapshot.backups.is_empty());
    let _ = last(&mut snapshot, [leg(), Change::Backup(3), Change::LinkGone(3)]);
    assert_eq!(snapshot, Snapshot::default());
}

#[test]
fn the_end_that_stays_is_asked_for() {
    let mut snapshot = Snapshot::default();
    let mut pod_end = link(LinkKind::Pair);
    pod_end.counterpart = Some(4);
    let mut host_end = link(LinkKind::Pair);
    host_end.counterpart = Some(3);
    let changes = [Change::Link(3, pod_end), Change::Link(4, host_end), Change::LinkGone(3)];
    let aftermath = last(&mut snapshot, changes);
    assert_eq!(aftermath.ask, BTreeSet::from([4]));
}

#[test]
fn routes_that_go_silently_are_read_again() {
    for (default, address) in [("0.0.0.0", "192.0.2.1"), ("::", "2001:db8::1")] {
        let mut down = link(LinkKind::Other);
        down.up = false;
        let mut snapshot = Snapshot::default();
        let changes = [
            Change::Link(2, link(LinkKind::Other)),
            Change::Address(2, ip(address), Some(Standing::Preferred)),
            Change::Route(2, route(default, 0)),
        ];
        assert!(!last(&mut snapshot, changes).reread);
        assert!(last(&mut snapshot.clone(), [Change::Link(2, down)]).reread);
        assert!(last(&mut snapshot, [Change::Address(2, ip(address), None)]).reread);
    }
    // A pod that goes takes no route with it that matters to others.
    let mut snapshot = Snapshot::default();
    let mut down = link(LinkKind::Pair);
    down.up = false;
    let changes = [
        Change::Link(3, link(LinkKind::Pair)),
        Change::Address(3, ip("10.0.0.1"), Some(Standing::Preferred)),
        Change::Route(3, route("10.0.0.2", 32)),
        Change::Link(3, down),
        Change::Address(3, ip("10.0.0.1"), None),
    ];
    assert!(!last(&mut snapshot, changes).reread);
}

#[test]
fn only_routes_that_matter_are_kept() {
    let mut snapshot = Snapshot::default();
    let changes = [
        Change::Link(2, link(LinkKind::Other)),
        Change::Route(2, route("192.0.2.0", 24)),
        Change::Route(2, route("0.0.0.0", 0)),
        Change::Route(9, route("0.0.0.0", 0)),
    ];
    let _ = last(&mut snapshot, changes);
    assert!(snapshot.routes[&2].iter().eq([&route("0.0.0.0", 0)]));
    assert_eq!(snapshot.routes.len(), 1);
    let _ = last(&mut snapshot, [Change::RouteGone(2, route("0.0.0.0", 0))]);
    assert_eq!(snapshot.default_routes(2).count(), 0);
}

#[test]
fn what_is_told_twice_changes_nothing() {
    let mut snapshot = Snapshot::default();
    let changes = || {
        [
            Change::Link(3, link(LinkKind::Pair)),
            Change::Route(3, route("2001:db8::2", 128)),
            Change::Address(3, ip("2001:db8::1"), Some(Standing::Preferred)),
        ]
    };
    let _ = last(&mut snapshot, changes());
    for change in changes() {
        assert_eq!(last(&mut snapshot, [change]), Aftermath::default());
    }
}

#[test]
fn preferred_addresses_are_better_than_lesser_ones() {
    let mut snapshot = Snapshot::default();
    let changes = [
        Change::Address(3, ip("2001:db8::"), Some(Standing::Tentative)),
        Change::Address(3, ip("2001:db8::1"), Some(Standing::Lesser)),
        Change::Address(3, ip("2001:db8::3"), Some(Standing::Preferred)),
        Change::Address(3, ip("2001:db8::2"), Some(Standing::Preferred)),
    ];
    let _ = last(&mut snapshot, changes);
    assert_eq!(snapshot.best_address(3, IpAddr::is_ipv6), Some(ip("2001:db8::2")));
    assert_eq!(snapshot.best_address(3, IpAddr::is_ipv4), None);
}
