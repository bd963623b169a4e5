// SPDX-License-Identifier: Apache-2.0
//! From the kernel's messages to changes of a snapshot.

use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_REPLACE, NetlinkHeader, Nla as _};
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
    link::{
        BondPortState, InfoBondPort, InfoData, InfoKind, InfoPortData, InfoTun, InfoVlan,
        LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, VlanProtocol,
    },
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType},
};

use super::snapshot::{Change, Link, LinkHeader, LinkKind, Route, Standing};

/// `IFLA_TUN_TYPE` of `linux/if_link.h`.
const IFLA_TUN_TYPE: u16 = 3;
/// The kind of Open vSwitch's own devices: `net/openvswitch/vport-internal_dev.c`.
const OPEN_VSWITCH: &str = "openvswitch";
/// `IFF_TAP` of `linux/if_tun.h`.
const IFF_TAP: u8 = 2;

/// The changes that a message tells of.
pub(super) fn changes(header: &NetlinkHeader, message: RouteNetlinkMessage) -> Vec<Change> {
    match message {
        // Bridges tell of their ports in link messages too, without most attributes; a
        // "deleted link" among these has left its bridge, no more.
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link)
            if link.header.interface_family != AddressFamily::Unspec =>
        {
            Vec::new()
        }
        RouteNetlinkMessage::NewLink(message) => {
            let index = message.header.index;
            let backup = is_backup(&message).then_some(Change::Backup(index));
            [Change::Link(index, link(message))].into_iter().chain(backup).collect()
        }
        RouteNetlinkMessage::DelLink(message) => vec![Change::LinkGone(message.header.index)],
        RouteNetlinkMessage::NewAddress(message) => address(&message, true).into_iter().collect(),
        RouteNetlinkMessage::DelAddress(message) => address(&message, false).into_iter().collect(),
        RouteNetlinkMessage::NewRoute(message) => {
            let replaces = header.flags & NLM_F_REPLACE != 0;
            routes(&message, replaces, Change::Route)
        }
        RouteNetlinkMessage::DelRoute(message) => routes(&message, false, Change::RouteGone),
        _ => Vec::new(),
    }
}

fn link(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        name: String::new(),
        kind: LinkKind::Other,
        master: None,
        mac: [0; 6],
        header: link_header(message.header.link_layer_type),
        counterpart: None,
        counterpart_elsewhere: false,
        vlan: None,
        up: flags.contains(LinkFlags::Up),
    };
    if flags.contains(LinkFlags::Loopback) {
        link.kind = LinkKind::Loopback;
    }
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Controller(master) => link.master = Some(master),
            LinkAttribute::Address(mac) => link.mac = mac.try_into().unwrap_or_default(),
            LinkAttribute::Link(counterpart) => link.counterpart = Some(counterpart),
            LinkAttribute::LinkNetNsId(_) => link.counterpart_elsewhere = true,
            LinkAttribute::LinkInfo(info) => (link.kind, link.vlan) = (kind(&info), vlan(&info)),
            _ => {}
        }
    }
    link
}

/// Whether a bond holds it in reserve (`IFLA_BOND_SLAVE_STATE`).
fn is_backup(message: &LinkMessage) -> bool {
    let infos = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => Some(info),
        _ => None,
    });
    let backup = InfoBondPort::BondPortState(BondPortState::Backup);
    infos.flatten().any(|info| {
        matches!(info, LinkInfo::PortData(InfoPortData::BondPort(port)) if port.contains(&backup))
    })
}

fn link_header(kind: LinkLayerType) -> LinkHeader {
    match kind {
        LinkLayerType::Ether | LinkLayerType::Loopback => LinkHeader::Ethernet,
        LinkLayerType::None
        | LinkLayerType::Rawip
        | LinkLayerType::Ppp
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit => LinkHeader::None,
        _ => LinkHeader::Other,
    }
}

fn kind(info: &[LinkInfo]) -> LinkKind {
    let kind = info.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        Some(InfoKind::Bridge) => LinkKind::Bridge,
        Some(InfoKind::Vrf) => LinkKind::Vrf,
        Some(InfoKind::Bond | InfoKind::Team) => LinkKind::Bond,
        Some(InfoKind::Veth | InfoKind::Netkit) => LinkKind::Pair,
        Some(InfoKind::Dummy) => LinkKind::Inner,
        Some(InfoKind::Other(kind)) if kind == OPEN_VSWITCH => LinkKind::Inner,
        Some(InfoKind::Tun) if info.iter().any(is_tap) => LinkKind::Tap,
        Some(
            InfoKind::Tun
            | InfoKind::Vxlan
            | InfoKind::Geneve
            | InfoKind::IpIp
            | InfoKind::Ip6Tnl
            | InfoKind::SitTun
            | InfoKind::GreTun
            | InfoKind::GreTun6
            | InfoKind::GreTap
            | InfoKind::GreTap6
            | InfoKind::ErSpan
            | InfoKind::Ip6ErSpan
            | InfoKind::Vti
            | InfoKind::Vti6
            | InfoKind::Xfrm
            | InfoKind::BareUdp
            | InfoKind::Gtp
            | InfoKind::Wireguard,
        ) => LinkKind::Tunnel,
        _ => LinkKind::Other,
    }
}

fn vlan(info: &[LinkInfo]) -> Option<u16> {
    let data = info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    })?;
    let is_provider =
        |data: &InfoVlan| matches!(data, InfoVlan::Protocol(VlanProtocol::Ieee8021Ad));
    data.iter().find_map(|attribute| match attribute {
        InfoVlan::Id(id) if !data.iter().any(is_provider) => Some(*id),
        _ => None,
    })
}

fn is_tap(info: &LinkInfo) -> bool {
    let LinkInfo::Data(InfoData::Tun(attributes)) = info else {
        return false;
    };
    attributes.iter().any(|attribute| {
        let InfoTun::Other(nla) = attribute else {
            return false;
        };
        let mut value = vec![0; nla.value_len()];
        nla.emit_value(&mut value);
        nla.kind() == IFLA_TUN_TYPE && value == [IFF_TAP]
    })
}

fn address(message: &AddressMessage, present: bool) -> Option<Change> {
    let mut local = None;
    let mut peer = None;
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // On a point-to-point device `IFA_ADDRESS` is the other side's, otherwise it is the only one.
    let address = local.or(peer)?;
    if message.header.scope != AddressScope::Universe || !is_global_unicast(address) {
        return None;
    }
    let tentative =
        flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
    let standing = if tentative {
        Standing::Tentative
    } else if flags.intersects(AddressFlags::Secondary | AddressFlags::Deprecated) {
        Standing::Lesser
    } else {
        Standing::Preferred
    };
    let is_own = present && !flags.contains(AddressFlags::Dadfailed);
    let standing = is_own.then_some(standing);
    Some(Change::Address(message.header.index, address, standing))
}

/// Whether packets with this address can be routed to and from others.
pub(super) fn is_global_unicast(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(link_local || address.is_loopback() || address.is_multicast() || address.is_unspecified())
}

fn routes(message: &RouteMessage, replaces: bool, change: fn(u32, Route) -> Change) -> Vec<Change> {
    let header = &message.header;
    if header.kind != RouteType::Unicast || header.flags.contains(RouteFlags::Cloned) {
        return Vec::new();
    }
    let Some(unspecified) = unspecified(header.address_family) else {
        return Vec::new();
    };
    let mut route = Route {
        prefix_length: header.destination_prefix_length,
        destination: unspecified,
        table: header.table.into(),
        metric: 0,
    };
    let mut devices = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(destination) => {
                let Some(destination) = ip(destination) else {
                    return Vec::new();
                };
                route.destination = destination;
            }
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Oif(device) => devices.push(*device),
            RouteAttribute::MultiPath(hops) => {
                devices.extend(hops.iter().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    let is_default = route.prefix_length == 0;
    if !is_default && !is_global_unicast(route.destination) {
        return Vec::new();
    }
    // What it takes the place of, or which next hops stay, is not in the message.
    let unclear = is_default && (replaces || devices.len() > 1);
    let changes = devices.into_iter().map(|device| change(device, route));
    changes.chain(unclear.then_some(Change::Unclear)).collect()
}

/// The unspecified address of an IP family, which is what a default route leads to.
fn unspecified(family: AddressFamily) -> Option<IpAddr> {
    match family {
        AddressFamily::Inet => Some(std::net::Ipv4Addr::UNSPECIFIED.into()),
        AddressFamily::Inet6 => Some(std::net::Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

/// The IP address in an attribute of a route.
pub(super) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
