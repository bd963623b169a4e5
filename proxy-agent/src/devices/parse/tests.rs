// SPDX-License-Identifier: Apache-2.0

use std::net::IpAddr;

use rtnetlink::packet_core::{DefaultNla, NLM_F_REPLACE, NetlinkHeader};
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::{
        BondPortState, InfoBondPort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoTun,
        LinkAttribute, LinkInfo, LinkMessage,
    },
    route::{RouteAttribute, RouteMessage, RouteNextHop, RouteType},
};

use super::changes;
use crate::devices::snapshot::{Change, LinkKind, MAIN_TABLE, Route, Standing};

fn plain(message: RouteNetlinkMessage) -> Vec<Change> {
    changes(&NetlinkHeader::default(), message)
}

fn link(info: Vec<LinkInfo>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = 7;
    message.attributes = vec![
        LinkAttribute::IfName("dev0".to_owned()),
        LinkAttribute::Controller(5),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 7]),
        LinkAttribute::Link(3),
        LinkAttribute::LinkNetNsId(0),
        LinkAttribute::LinkInfo(info),
    ];
    message
}

fn tun(kind: u8) -> Vec<LinkInfo> {
    let data = InfoTun::Other(DefaultNla::new(3, vec![kind]));
    vec![LinkInfo::Kind(InfoKind::Tun), LinkInfo::Data(InfoData::Tun(vec![data]))]
}

#[test]
fn links_are_known_by_their_attributes() {
    let kinds = [
        (vec![LinkInfo::Kind(InfoKind::Veth)], LinkKind::Pair),
        (vec![LinkInfo::Kind(InfoKind::Bridge)], LinkKind::Bridge),
        (vec![LinkInfo::Kind(InfoKind::Bond)], LinkKind::Bond),
        (vec![LinkInfo::Kind(InfoKind::Team)], LinkKind::Bond),
        (vec![LinkInfo::Kind(InfoKind::Vxlan)], LinkKind::Tunnel),
        (vec![LinkInfo::Kind(InfoKind::Dummy)], LinkKind::Inner),
        (vec![LinkInfo::Kind(InfoKind::Other("openvswitch".to_owned()))], LinkKind::Inner),
        (vec![LinkInfo::Kind(InfoKind::MacVlan)], LinkKind::Other),
        (tun(1), LinkKind::Tunnel),
        (tun(2), LinkKind::Tap),
        (vec![], LinkKind::Other),
    ];
    for (info, kind) in kinds {
        let changes = plain(RouteNetlinkMessage::NewLink(link(info)));
        let [Change::Link(7, link)] = changes.as_slice() else {
            panic!("{changes:?}");
        };
        assert_eq!((link.kind, link.name.as_str(), link.master), (kind, "dev0", Some(5)));
        assert_eq!((link.mac, link.counterpart), ([2, 0, 0, 0, 0, 7], Some(3)));
        assert!(link.counterpart_elsewhere && !link.up);
    }
}

#[test]
fn a_leg_may_be_in_reserve() {
    for (state, backup) in [(BondPortState::Active, false), (BondPortState::Backup, true)] {
        let port = InfoPortData::BondPort(vec![InfoBondPort::BondPortState(state)]);
        let info = vec![LinkInfo::PortKind(InfoPortKind::Bond), LinkInfo::PortData(port)];
        let told = plain(RouteNetlinkMessage::NewLink(link(info)));
        assert!(matches!(told[0], Change::Link(7, _)), "{told:?}");
        assert_eq!(told[1..], [Change::Backup(7)][..usize::from(backup)]);
    }
}

#[test]
fn a_port_that_leaves_its_bridge_is_not_gone() {
    let mut message = link(vec![]);
    message.header.interface_family = AddressFamily::Bridge;
    assert_eq!(plain(RouteNetlinkMessage::DelLink(message.clone())), []);
    assert_eq!(plain(RouteNetlinkMessage::NewLink(message.clone())), []);
    message.header.interface_family = AddressFamily::Unspec;
    assert_eq!(plain(RouteNetlinkMessage::DelLink(message)), [Change::LinkGone(7)]);
}

fn address(text: &str, flags: AddressFlags) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = 7;
    message.attributes =
        vec![AddressAttribute::Address(text.parse().unwrap()), AddressAttribute::Flags(flags)];
    message
}

#[test]
fn only_global_addresses_count() {
    let told = |text: &str, flags| plain(RouteNetlinkMessage::NewAddress(address(text, flags)));
    for text in ["127.0.0.1", "169.254.1.1", "::1", "fe80::1"] {
        assert_eq!(told(text, AddressFlags::Permanent), []);
    }
    for text in ["10.0.0.1", "fd00::1"] {
        let ip: IpAddr = text.parse().unwrap();
        let change = |standing| [Change::Address(7, ip, standing)];
        assert_eq!(told(text, AddressFlags::Permanent), change(Some(Standing::Preferred)));
        assert_eq!(told(text, AddressFlags::Secondary), change(Some(Standing::Lesser)));
        assert_eq!(told(text, AddressFlags::Tentative), change(Some(Standing::Tentative)));
        assert_eq!(told(text, AddressFlags::Dadfailed), change(None));
        let gone = RouteNetlinkMessage::DelAddress(address(text, AddressFlags::Permanent));
        assert_eq!(plain(gone), change(None));
    }
}

#[test]
fn the_local_address_of_a_point_to_point_device_counts() {
    let mut message = address("10.0.0.2", AddressFlags::Permanent);
    message.attributes.push(AddressAttribute::Local("10.0.0.1".parse().unwrap()));
    let local = "10.0.0.1".parse().unwrap();
    let expected = [Change::Address(7, local, Some(Standing::Preferred))];
    assert_eq!(plain(RouteNetlinkMessage::NewAddress(message)), expected);
}

fn route(destination: Option<(&str, u8)>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.kind = RouteType::Unicast;
    message.header.table = 254;
    if let Some((destination, prefix_length)) = destination {
        message.header.destination_prefix_length = prefix_length;
        let destination: IpAddr = destination.parse().unwrap();
        message.attributes.push(RouteAttribute::Destination(destination.into()));
    }
    message.attributes.push(RouteAttribute::Oif(7));
    message
}

fn parsed(destination: &str, prefix_length: u8) -> Route {
    Route { prefix_length, destination: destination.parse().unwrap(), table: MAIN_TABLE, metric: 0 }
}

#[test]
fn routes_to_pods_and_default_routes_count() {
    let to_pod = RouteNetlinkMessage::NewRoute(route(Some(("2001:db8::7", 128))));
    assert_eq!(plain(to_pod), [Change::Route(7, parsed("2001:db8::7", 128))]);
    assert_eq!(plain(RouteNetlinkMessage::NewRoute(route(Some(("fe80::", 64))))), []);
    let gone = RouteNetlinkMessage::DelRoute(route(None));
    assert_eq!(plain(gone), [Change::RouteGone(7, parsed("::", 0))]);
    let mut unreachable = route(None);
    unreachable.header.kind = RouteType::Unreachable;
    assert_eq!(plain(RouteNetlinkMessage::NewRoute(unreachable)), []);
}

#[test]
fn a_default_route_that_replaces_another_is_unclear() {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REPLACE;
    let default = Change::Route(7, parsed("::", 0));
    let told = changes(&header, RouteNetlinkMessage::NewRoute(route(None)));
    assert_eq!(told, [default.clone(), Change::Unclear]);
    let mut other = RouteNextHop::default();
    other.interface_index = 8;
    let mut several = route(None);
    several.attributes.push(RouteAttribute::MultiPath(vec![other]));
    let expected = [default, Change::Route(8, parsed("::", 0)), Change::Unclear];
    assert_eq!(plain(RouteNetlinkMessage::NewRoute(several)), expected);
}
