// SPDX-License-Identifier: Apache-2.0
//! The devices that have programs, and what those must know of them.

use std::{collections::BTreeMap, net::IpAddr};

use proxy_common::{Address, Family, V4, V6, device::Device};

use crate::local_clients::LocalClients;

use super::{
    attach::Programs,
    classify::{Role, leads_out},
    options::DeviceOptions,
    snapshot::{LinkHeader, LinkKind, Snapshot},
    xdp::Driven,
};

/// A device that has programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedDevice {
    /// Its interface index.
    pub index: u32,
    /// Its name, when this was written; it may be renamed.
    pub name: String,
    /// Which programs.
    pub programs: Programs,
    /// How its frames are to be handled in a driver.
    pub driven: Option<Driven>,
    /// What the programs look up of it.
    pub device: Device,
    /// The host's addresses towards who is behind it.
    pub host_addresses: HostAddresses,
}

/// Per family, the global address that the host would use towards who is behind a device, if it has
/// any: the source of hairpin connections, and of what is masqueraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostAddresses([Option<IpAddr>; 2]);

fn is_of<F: Family>(address: &IpAddr) -> bool {
    F::Addr::from_ip(*address).is_some()
}

impl HostAddresses {
    /// The address of this family.
    #[must_use]
    pub fn of<F: Family>(self) -> Option<F::Addr> {
        self.0[F::INDEX as usize].and_then(F::Addr::from_ip)
    }

    /// Whether an address is of a family, for each family at its [`Family::INDEX`].
    pub(super) const FAMILIES: [fn(&IpAddr) -> bool; 2] = [is_of::<V4>, is_of::<V6>];

    /// For each family, what `find` finds, given the test for addresses of that family.
    fn find(find: impl FnMut(fn(&IpAddr) -> bool) -> Option<IpAddr>) -> Self {
        Self(Self::FAMILIES.map(find))
    }

    /// Sets the address of the family that it is of.
    pub(super) fn set(&mut self, address: IpAddr) {
        for (of_family, is_of_family) in self.0.iter_mut().zip(Self::FAMILIES) {
            if is_of_family(&address) {
                *of_family = Some(address);
            }
        }
    }

    /// These, and where there is none of a family, that of `other`.
    fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|family| self.0[family].or(other.0[family])))
    }
}

/// The device that has the host's addresses towards a workload device: its bridge, or itself.
pub(super) fn host_side(snapshot: &Snapshot, index: u32) -> u32 {
    bridge_of(snapshot, index).map_or(index, |(bridge, _)| bridge)
}

/// The bridge that a device is a port of: index and MAC address.
fn bridge_of(snapshot: &Snapshot, index: u32) -> Option<(u32, [u8; 6])> {
    let master = snapshot.links.get(&index)?.master?;
    let bridge = snapshot.links.get(&master)?;
    (bridge.kind == LinkKind::Bridge).then_some((master, bridge.mac))
}

/// Whether clients behind a device count as the node's own pods, where devices tell. As in kube-proxy,
/// which asks when packets are to be routed, a bridge counts in the place of its ports (and a VRF's
/// part for itself).
fn has_local_clients(snapshot: &Snapshot, index: u32, role: Role, local: &LocalClients) -> bool {
    let name = snapshot.links.get(&host_side(snapshot, index)).map(|link| &link.name);
    match local {
        LocalClients::ByBridge(bridge) => name == Some(bridge),
        LocalClients::ByNamePrefix(prefix) => name.is_some_and(|name| name.starts_with(prefix)),
        _ => role == Role::Workload,
    }
}

/// The addresses of a device that packets of the node's own would leave it with, as a masquerade
/// would choose them: one by which the Node is known, if there is one.
fn own_addresses(snapshot: &Snapshot, device: u32) -> HostAddresses {
    let of_node = |address: &IpAddr| snapshot.node_addresses.contains(address);
    let own = HostAddresses::find(|is_of_family| {
        snapshot.best_address(device, |address| is_of_family(address) && of_node(address))
    });
    own.or(HostAddresses::find(|is_of_family| snapshot.best_address(device, is_of_family)))
}

/// The addresses by which the Node is known and which the host has, wherever: those of a host whose
/// uplinks have none (unnumbered, as with BGP), which masquerades by its loopback device's.
fn addresses_of_node(snapshot: &Snapshot) -> HostAddresses {
    let of_node = |address: &IpAddr| snapshot.node_addresses.contains(address);
    HostAddresses::find(|is_of_family| {
        snapshot.addresses.keys().find_map(|device| {
            snapshot.best_address(*device, |address| is_of_family(address) && of_node(address))
        })
    })
}

/// Describes all devices with a role, by interface index.
///
/// `choices` holds, by the index of the [`host_side`], the source addresses that the kernel
/// chooses towards destinations behind it. Where neither the host side has an address nor the
/// kernel a choice, the host has at least the addresses of its uplinks: of those that lead out, or
/// else the Node's, or else of the others.
pub(super) fn describe(
    snapshot: &Snapshot,
    roles: &BTreeMap<u32, Role>,
    choices: &BTreeMap<u32, HostAddresses>,
    options: &DeviceOptions,
) -> BTreeMap<u32, ServedDevice> {
    let uplinks = roles.iter().filter(|(_, role)| **role == Role::Uplink);
    // Others know the way back to the addresses of the first ones.
    let (out, beside): (Vec<u32>, Vec<u32>) =
        uplinks.map(|(index, _)| *index).partition(|index| leads_out(snapshot, *index, false));
    let own = |uplink: &u32| own_addresses(snapshot, *uplink);
    let of_uplinks = out
        .iter()
        .map(own)
        .chain([addresses_of_node(snapshot)])
        .chain(beside.iter().map(own))
        .fold(HostAddresses::default(), HostAddresses::or);
    let described = |(&index, &role): (&u32, &Role)| {
        let link = snapshot.links.get(&index)?;
        let has_ethernet_header = link.header == LinkHeader::Ethernet;
        let programs = Programs { role, has_ethernet_header };
        let mut served = ServedDevice {
            index,
            name: link.name.clone(),
            programs,
            driven: None,
            device: Device::uplink(link.mac),
            host_addresses: own_addresses(snapshot, index).or(of_uplinks),
        };
        if role == Role::Uplink {
            served.driven = options.xdp.of(snapshot, index);
        }
        if role == Role::Workload {
            let bridge = bridge_of(snapshot, index);
            let device =
                bridge.map_or(Device::routed(), |(bridge, mac)| Device::bridge_port(bridge, mac));
            // The kernel sends nothing to another end that is in the same namespace.
            let is_pair = link.kind == LinkKind::Pair
                && link.counterpart_elsewhere
                && link.master.is_none()
                && has_ethernet_header;
            served.device = if is_pair { device.as_pair() } else { device };
            let host_side = host_side(snapshot, index);
            let chosen = choices.get(&host_side).copied().unwrap_or_default();
            served.host_addresses = own_addresses(snapshot, host_side).or(chosen).or(of_uplinks);
        }
        let are_local = has_local_clients(snapshot, index, role, &options.local_clients);
        served.device = served.device.with_local_clients(are_local);
        Some((index, served))
    };
    roles.iter().filter_map(described).collect()
}

#[cfg(test)]
mod tests;
