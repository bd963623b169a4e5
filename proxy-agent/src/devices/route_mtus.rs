// SPDX-License-Identifier: Apache-2.0
//! Routes with an MTU of their own (`ip route add ... mtu 1400`). The kernel forwards by it, but does not tell it to
//! programs that ask for a route, unless it is locked (`ip_mtu_from_fib_result`).

use std::collections::BTreeMap;

use ipnet::IpNet;
use rtnetlink::packet_route::{
    AddressFamily,
    route::{RouteAttribute, RouteFlags, RouteMessage, RouteMetric},
};

use super::parse;

/// What the kernel says of a destination: the largest packet that its routes take, in bytes, or nothing if that is for
/// their devices to say.
pub type RouteMtu = (IpNet, Option<u32>);

/// A route's table and priority. Routes of one destination may share them: those of an IPv6 destination by several
/// gateways, those that were appended, and those of several types of service.
type Place = (u32, u32);

/// The smallest MTU of the routes that share a place, by destination and place, if one of them has any. Which of them
/// a packet takes depends on more than its destination: what it says of a destination holds for all of them.
///
/// Of IPv6 routes that the kernel has joined into one of several gateways it tells the MTU of the first, when they are
/// read: should they differ, that of the others is not seen.
#[derive(Debug, Default)]
pub(super) struct RouteMtus(BTreeMap<IpNet, BTreeMap<Place, u32>>);

/// What follows from a message about a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing.
    Nothing,
    /// This holds for its destination from now on.
    Holds(RouteMtu),
    /// What holds for its destination cannot be told: all routes have to be read. Until then what is known stays.
    Unclear,
}

impl RouteMtus {
    /// What holds of destinations, in bytes, of whatever routes.
    pub(super) fn said(mtus: Vec<(IpNet, u32)>) -> Self {
        let unknown = |mtu| BTreeMap::from([((0, 0), mtu)]);
        Self(mtus.into_iter().map(|(destination, mtu)| (destination, unknown(mtu))).collect())
    }

    /// Adds one of the routes that there are, while all are read.
    pub(super) fn add(&mut self, route: &RouteMessage) {
        if let Some((destination, place, Some(mtu))) = read(route) {
            let known = self.0.entry(destination).or_default().entry(place).or_insert(mtu);
            *known = mtu.min(*known);
        }
    }

    /// Takes note of what the kernel says of a route: that it is there, or that it is gone.
    ///
    /// It does not say whether a route is one more of its place or replaces another, and which: only a smaller MTU
    /// than that of all others is clear.
    pub(super) fn hear(&mut self, route: &RouteMessage, is_there: bool) -> Heard {
        let Some((destination, place, mtu)) = read(route) else { return Heard::Nothing };
        let known = self.0.get(&destination).and_then(|places| places.get(&place)).copied();
        let mtu = match (known, mtu.filter(|_| is_there)) {
            (None, None) => return Heard::Nothing,
            (Some(_), None) => return Heard::Unclear,
            (Some(known), Some(mtu)) if mtu > known => return Heard::Unclear,
            (_, Some(mtu)) => mtu,
        };
        let before = self.of(&destination);
        let _: Option<u32> = self.0.entry(destination).or_default().insert(place, mtu);
        let now = self.of(&destination);
        if now == before { Heard::Nothing } else { Heard::Holds((destination, now)) }
    }

    /// What differs from what was known before, for each destination.
    pub(super) fn since(&self, before: &Self) -> Vec<RouteMtu> {
        let destinations =
            self.0.keys().chain(before.0.keys().filter(|it| !self.0.contains_key(it)));
        let now = destinations.map(|it| (*it, self.of(it)));
        now.filter(|(destination, mtu)| *mtu != before.of(destination)).collect()
    }

    fn of(&self, destination: &IpNet) -> Option<u32> {
        self.0.get(destination)?.values().min().copied()
    }
}

/// A route's destination, its place, and its MTU. Nothing of what the kernel has learned of a path: it does not tell
/// when that ends, and programs that ask for a route are told of it.
fn read(route: &RouteMessage) -> Option<(IpNet, Place, Option<u32>)> {
    let header = &route.header;
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut address = match header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut table, mut priority, mut mtu) = (header.table.into(), 0, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(destination) => address = parse::ip(destination)?,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => priority = *number,
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let destination = IpNet::new(address, header.destination_prefix_length).ok()?;
    Some((destination, (table, priority), mtu))
}

#[cfg(test)]
pub(super) mod tests {
    use rtnetlink::packet_route::route::RouteHeader;

    use super::*;

    /// A route to 10.0.0.0/8.
    pub(in crate::devices) fn route(mtu: Option<u32>, priority: u32) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header = RouteHeader {
            address_family: AddressFamily::Inet,
            destination_prefix_length: 8,
            ..RouteHeader::default()
        };
        route.attributes = vec![
            RouteAttribute::Destination(std::net::Ipv4Addr::new(10, 0, 0, 0).into()),
            RouteAttribute::Priority(priority),
        ];
        route
            .attributes
            .extend(mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
        route
    }

    /// What is said of that destination.
    pub(in crate::devices) fn holds(mtu: Option<u32>) -> RouteMtu {
        ("10.0.0.0/8".parse().unwrap(), mtu)
    }

    /// What is known when these have been read.
    pub(in crate::devices) fn all(routes: &[RouteMessage]) -> RouteMtus {
        let mut all = RouteMtus::default();
        for route in routes {
            all.add(route);
        }
        all
    }

    #[test]
    fn the_smallest_of_a_destination_holds() {
        let mut known = RouteMtus::default();
        assert_eq!(known.hear(&route(None, 0), true), Heard::Nothing);
        assert_eq!(known.hear(&route(Some(1400), 1), true), Heard::Holds(holds(Some(1400))));
        assert_eq!(known.hear(&route(Some(1450), 2), true), Heard::Nothing);
        assert_eq!(known.hear(&route(Some(1300), 2), true), Heard::Holds(holds(Some(1300))));
        assert_eq!(known.hear(&route(Some(1300), 2), true), Heard::Nothing);
    }

    #[test]
    fn routes_without_one_come_and_go_without_a_reading() {
        let mut known = all(&[route(Some(1400), 1)]);
        for is_there in [true, true, false, false] {
            assert_eq!(known.hear(&route(None, 2), is_there), Heard::Nothing);
        }
        // One with an MTU goes that was not known.
        assert_eq!(known.hear(&route(Some(1300), 2), false), Heard::Nothing);
        assert_eq!(known.of(&holds(None).0), Some(1400));
    }

    #[test]
    fn one_of_several_in_a_place_may_still_be_there() {
        // Gone, replaced by one without, replaced by one with a larger: or another, with the same, stands.
        let messages = [(Some(1400), false), (None, false), (None, true), (Some(1500), true)];
        for (told, is_there) in messages {
            let mut known = all(&[route(Some(1400), 1), route(Some(1400), 1)]);
            assert_eq!(known.hear(&route(told, 1), is_there), Heard::Unclear, "{told:?}");
            assert_eq!(known.of(&holds(None).0), Some(1400), "{told:?}: kept until that is clear");
        }
    }

    #[test]
    fn the_smallest_of_those_in_a_place_is_read() {
        for mtus in [[None, Some(1300), Some(1400)], [Some(1400), Some(1300), None]] {
            let read = all(&mtus.map(|mtu| route(mtu, 1)));
            assert_eq!(read.since(&RouteMtus::default()), [holds(Some(1300))]);
        }
    }

    #[test]
    fn what_was_missed_is_told() {
        let (before, now) = (all(&[route(Some(1400), 1)]), all(&[route(Some(1300), 1)]));
        assert_eq!(RouteMtus::default().since(&before), [holds(None)]);
        assert_eq!(now.since(&before), [holds(Some(1300))]);
        assert_eq!(now.since(&now), []);
    }

    #[test]
    fn what_is_learned_of_a_path_is_no_route() {
        let mut learned = route(Some(1300), 0);
        learned.header.flags = RouteFlags::Cloned;
        let mut known = all(&[learned.clone()]);
        assert_eq!(known.hear(&learned, true), Heard::Nothing);
    }

    /// By an agent before this one.
    #[test]
    fn what_was_said_of_routes_that_are_gone_is_taken_back() {
        let destination: IpNet = "10.0.0.0/8".parse().unwrap();
        let said = RouteMtus::said(vec![(destination, 1400)]);
        let mut read = RouteMtus::default();
        assert_eq!(read.since(&said), [(destination, None)]);
        read.add(&route(Some(1400), 7));
        assert_eq!(read.since(&said), []);
    }
}
