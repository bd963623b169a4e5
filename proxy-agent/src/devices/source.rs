// SPDX-License-Identifier: Apache-2.0
//! The kernel's own choice of source addresses, asked for route by route.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAttribute, RouteMessage, RouteType},
};

use super::{
    classify::Role,
    netlink::Requests,
    parse,
    served::{HostAddresses, host_side},
    snapshot::{Aftermath, Route, Snapshot},
};

/// How many routes over a device are tried, per family.
const TRIED_ROUTES: usize = 4;

/// The kernel's choices, by the device that leads to the destinations.
#[derive(Debug, Default)]
pub(super) struct Choices(BTreeMap<u32, HostAddresses>);

impl Choices {
    /// Those that are known.
    pub(super) const fn known(&self) -> &BTreeMap<u32, HostAddresses> {
        &self.0
    }

    /// Asks for them where they are not known, or may have changed, towards all workloads.
    pub(super) async fn ask(
        &mut self,
        requests: &Requests,
        snapshot: &Snapshot,
        roles: &BTreeMap<u32, Role>,
        aftermath: &Aftermath,
    ) {
        let workloads = roles.iter().filter(|(_, role)| **role == Role::Workload);
        let host_sides: BTreeSet<_> =
            workloads.map(|(index, _)| host_side(snapshot, *index)).collect();
        self.0.retain(|index, _| host_sides.contains(index));
        for index in host_sides {
            let known = self.0.contains_key(&index);
            if !known || aftermath.readdressed || aftermath.rerouted.contains(&index) {
                let choice = kernels_choice(requests, snapshot, index).await;
                let _ = self.0.insert(index, choice);
            }
        }
    }
}

/// The source addresses that the kernel chooses towards destinations over a device, for the
/// families in which the device has no address itself.
async fn kernels_choice(requests: &Requests, snapshot: &Snapshot, device: u32) -> HostAddresses {
    let mut choice = HostAddresses::default();
    for is_of_family in HostAddresses::FAMILIES {
        if snapshot.best_address(device, is_of_family).is_some() {
            continue;
        }
        let routes = snapshot.routes.get(&device).into_iter().flatten();
        // The most specific ones lead to pods rather than to whole networks.
        let routes = routes.rev().filter(|route| is_of_family(&route.destination));
        for route in routes.take(TRIED_ROUTES) {
            if let Some(source) = source_towards(requests, device, route).await {
                choice.set(source);
                break;
            }
        }
    }
    choice
}

/// The source address that the kernel chooses towards the destinations of a route over this
/// device, if it is a global one and packets would take that device.
async fn source_towards(requests: &Requests, device: u32, route: &Route) -> Option<IpAddr> {
    let (destination, bits) = first_host(route);
    let mut request = RouteMessage::default();
    request.header.address_family = match destination {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    request.header.destination_prefix_length = bits;
    request.attributes = vec![RouteAttribute::Destination(destination.into())];
    let answer = requests.get(RouteNetlinkMessage::GetRoute(request)).await;
    // Unreachable destinations are answered with errors: there is no choice then.
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(answer)) = answer.ok()??.payload
    else {
        return None;
    };
    let over_device = answer.attributes.contains(&RouteAttribute::Oif(device));
    let source = answer.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(source) => parse::ip(source),
        _ => None,
    });
    source.filter(|source| {
        over_device && answer.header.kind == RouteType::Unicast && parse::is_global_unicast(*source)
    })
}

/// The first address in a route's destination that a host can have, and its number of bits.
fn first_host(route: &Route) -> (IpAddr, u8) {
    let bits = if route.destination.is_ipv4() { 32 } else { 128 };
    let host_bit = u8::from(route.prefix_length < bits);
    let address = match route.destination {
        IpAddr::V4(network) => IpAddr::V4((network.to_bits() | u32::from(host_bit)).into()),
        IpAddr::V6(network) => IpAddr::V6((network.to_bits() | u128::from(host_bit)).into()),
    };
    (address, bits)
}
