// SPDX-License-Identifier: Apache-2.0
//! What the kernel has said of links, addresses and routes, as plain values.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// The network devices of one network namespace, as far as their roles depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By interface index.
    pub links: BTreeMap<u32, Link>,
    /// Legs that their bond holds in reserve: it drops what comes by them.
    pub backups: BTreeSet<u32>,
    /// Global unicast addresses, by the interface index of their holder.
    pub addresses: BTreeMap<u32, BTreeMap<IpAddr, Standing>>,
    /// Unicast routes by interface index; beside default routes only those over devices that may
    /// lead to pods, so that a node that knows the whole internet does not keep it twice.
    pub routes: BTreeMap<u32, BTreeSet<Route>>,
    /// The addresses of the own Node object.
    pub node_addresses: BTreeSet<IpAddr>,
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name; it may be renamed.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// The interface index of the device that it is a part of: its bridge, bond or VRF.
    pub master: Option<u32>,
    /// Its MAC address; all zero if it has none.
    pub mac: [u8; 6],
    /// What its frames begin with.
    pub header: LinkHeader,
    /// The interface index of its other end or lower device, in whichever namespace that is.
    pub counterpart: Option<u32>,
    /// Whether that is in another network namespace.
    pub counterpart_elsewhere: bool,
    /// The VLAN that it is on its lower device, if it is one (IEEE 802.1Q).
    pub vlan: Option<u16>,
    /// Whether it is administratively up.
    pub up: bool,
}

/// What the frames of a device begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkHeader {
    /// An Ethernet header.
    Ethernet,
    /// The IP header: tunnels of packets.
    None,
    /// Something that the programs do not know: `InfiniBand`, GRE with headers of its own.
    Other,
}

/// What a device is, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// The loopback device.
    Loopback,
    /// A bridge.
    Bridge,
    /// A VRF: its parts keep their addresses and routes.
    Vrf,
    /// A bond or a team: its parts are ways out, and nothing by themselves.
    Bond,
    /// One of two ends: veth, netkit.
    Pair,
    /// An Ethernet device whose other end is a process, mostly a virtual machine.
    Tap,
    /// A tunnel, with or without Ethernet header.
    Tunnel,
    /// The node's own, with nobody behind it by itself: a dummy, the host's port of Open vSwitch.
    Inner,
    /// Anything else: hardware, VLAN, macvlan.
    Other,
}

/// How good an address is as a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// First choice.
    Preferred,
    /// Secondary (IPv4) or deprecated (IPv6).
    Lesser,
    /// Not to be used as long as the kernel looks whether somebody else has it (IPv6).
    Tentative,
}

/// A unicast route over one device. A route with several next hops is one for each.
///
/// The order puts default routes first and host routes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// How many bits of the destination count.
    pub prefix_length: u8,
    /// The destination.
    pub destination: IpAddr,
    /// The routing table.
    pub table: u32,
    /// The metric; lower is better.
    pub metric: u32,
}

/// The main routing table: `RT_TABLE_MAIN` of `linux/rtnetlink.h`.
pub const MAIN_TABLE: u32 = 254;

/// One thing that the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Link(u32, Link),
    /// Its bond holds it in reserve. That comes after the link itself, which by itself says that none does.
    Backup(u32),
    LinkGone(u32),
    /// Without a standing, the address is gone, or somebody else's.
    Address(u32, IpAddr, Option<Standing>),
    Route(u32, Route),
    RouteGone(u32, Route),
    /// A change whose effect can only be seen by reading everything.
    Unclear,
    /// The kernel had to drop messages.
    Lost,
}

/// What follows from changes beside the new snapshot.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Aftermath {
    /// The snapshot may be wrong now: read it again.
    pub(super) reread: bool,
    /// Devices may have gone and come unseen.
    pub(super) lost: bool,
    /// Links whose state has changed without a word: ask for them.
    pub(super) ask: BTreeSet<u32>,
    /// Devices that went, even if their indices are in use again.
    pub(super) gone: Vec<u32>,
    /// Devices over which routes changed.
    pub(super) rerouted: BTreeSet<u32>,
    /// Whether addresses changed.
    pub(super) readdressed: bool,
}

impl LinkKind {
    /// Whether pods can be behind it: then its routes matter beside default routes.
    fn may_lead_to_pods(self) -> bool {
        matches!(self, Self::Bridge | Self::Pair | Self::Tap)
    }
}

impl Snapshot {
    /// The best address that a device has in the family of which `is_of_family` is true.
    pub(super) fn best_address(
        &self,
        device: u32,
        is_of_family: impl Fn(&IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let addresses = self.addresses.get(&device)?.iter();
        let best = addresses
            .filter(|(address, standing)| {
                **standing != Standing::Tentative && is_of_family(address)
            })
            .min_by_key(|(address, standing)| (*standing, *address));
        best.map(|(address, _)| *address)
    }

    /// The default routes over a device.
    pub(super) fn default_routes(&self, device: u32) -> impl Iterator<Item = &Route> {
        let routes = self.routes.get(&device).into_iter().flatten();
        routes.take_while(|route| route.prefix_length == 0)
    }

    /// Takes in what the kernel said, and adds to `aftermath` what else follows.
    pub(super) fn apply(&mut self, change: Change, aftermath: &mut Aftermath) {
        match change {
            Change::Link(index, link) => self.apply_link(index, link, aftermath),
            Change::Backup(index) => {
                let _: bool = self.backups.insert(index);
            }
            Change::LinkGone(index) => {
                let _: bool = self.backups.remove(&index);
                if self.links.remove(&index).is_none() {
                    return;
                }
                aftermath.gone.push(index);
                aftermath.readdressed |= self.addresses.remove(&index).is_some();
                let _ = self.routes.remove(&index);
                self.ask_for_counterparts(index, aftermath);
            }
            Change::Address(index, address, standing) => {
                self.apply_address(index, address, standing, aftermath);
            }
            Change::Route(index, route) => {
                let Some(link) = self.links.get(&index) else {
                    return;
                };
                let wanted = route.prefix_length == 0 || link.kind.may_lead_to_pods();
                if wanted && self.routes.entry(index).or_default().insert(route) {
                    let _ = aftermath.rerouted.insert(index);
                }
            }
            Change::RouteGone(index, route) => {
                if self.routes.get_mut(&index).is_some_and(|routes| routes.remove(&route)) {
                    let _ = aftermath.rerouted.insert(index);
                }
            }
            Change::Unclear => aftermath.reread = true,
            Change::Lost => {
                aftermath.reread = true;
                aftermath.lost = true;
            }
        }
    }

    fn apply_link(&mut self, index: u32, link: Link, aftermath: &mut Aftermath) {
        let up = link.up;
        let counterpart = link.counterpart.filter(|_| !link.counterpart_elsewhere);
        let _: bool = self.backups.remove(&index);
        let Some(before) = self.links.insert(index, link) else {
            self.ask_for_counterparts(index, aftermath);
            aftermath.ask.extend(counterpart.filter(|other| self.is_pair(*other)));
            return;
        };
        // IPv4 routes go with their device's state, and nobody is told.
        aftermath.reread |= before.up != up && self.default_routes(index).next().is_some();
    }

    /// The ends of pairs learn nothing when their other end leaves or enters the namespace.
    fn ask_for_counterparts(&self, index: u32, aftermath: &mut Aftermath) {
        let other_ends = self
            .links
            .iter()
            .filter(|(_, link)| link.kind == LinkKind::Pair && link.counterpart == Some(index));
        aftermath.ask.extend(other_ends.map(|(index, _)| *index));
    }

    fn is_pair(&self, index: u32) -> bool {
        self.links.get(&index).is_some_and(|link| link.kind == LinkKind::Pair)
    }

    fn apply_address(
        &mut self,
        index: u32,
        address: IpAddr,
        standing: Option<Standing>,
        aftermath: &mut Aftermath,
    ) {
        let addresses = self.addresses.entry(index).or_default();
        let before = match standing {
            Some(standing) => addresses.insert(address, standing),
            None => addresses.remove(&address),
        };
        if addresses.is_empty() {
            let _ = self.addresses.remove(&index);
        }
        aftermath.readdressed |= before != standing;
        // IPv4 routes go with their source address, and nobody is told.
        if before.is_some() && standing.is_none() {
            aftermath.reread |= !self.is_pair(index) || self.default_routes(index).next().is_some();
        }
    }
}

#[cfg(test)]
mod tests;
