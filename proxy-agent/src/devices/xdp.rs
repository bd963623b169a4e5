// SPDX-License-Identifier: Apache-2.0
//! Which uplinks have a program in their driver, by the operator's word.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use globset::{Glob, GlobMatcher};
use proxy_common::device::Wire;
use thiserror::Error;

use super::snapshot::{Link, LinkHeader, LinkKind, Snapshot};

/// Where the program of an uplink's driver runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xdp {
    /// Nowhere: packets are handled in the host's stack.
    #[default]
    Off,
    /// In the driver, which must be able to.
    Native,
    /// Behind the driver, by the kernel's own hand (`XDP_FLAGS_SKB_MODE`): for drivers that are not able to.
    Generic,
}

impl Xdp {
    const ALL: [Self; 3] = [Self::Off, Self::Native, Self::Generic];

    /// Its name in flags and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Where the programs of drivers run: `MODE`, or `MODE=GLOB` for devices with such names.
#[derive(Clone, Debug)]
pub struct XdpChoice {
    mode: Xdp,
    glob: Option<Glob>,
}

/// A choice that cannot be understood.
#[derive(Debug, Error)]
pub enum XdpChoiceError {
    /// Not a glob.
    #[error(transparent)]
    Glob(#[from] globset::Error),
    /// Not a mode.
    #[error("{0} is no mode of XDP: these are off, native and generic")]
    Mode(String),
}

impl FromStr for XdpChoice {
    type Err = XdpChoiceError;

    fn from_str(text: &str) -> Result<Self, XdpChoiceError> {
        let (name, glob) =
            text.split_once('=').map_or((text, None), |(name, glob)| (name, Some(glob)));
        let mode = Xdp::ALL.into_iter().find(|mode| mode.name() == name);
        let mode = mode.ok_or_else(|| XdpChoiceError::Mode(name.to_owned()))?;
        Ok(Self { mode, glob: glob.map(Glob::new).transpose()? })
    }
}

/// What all choices together say.
#[derive(Clone, Debug, Default)]
pub struct XdpModes {
    /// In the order in which they are asked.
    named: Vec<(GlobMatcher, Xdp)>,
    others: Xdp,
}

impl XdpModes {
    /// From the operator's flags: of the choices with a glob the first that fits, then the last one without.
    #[must_use]
    pub fn new(choices: &[XdpChoice]) -> Self {
        let named = choices.iter().filter_map(|choice| {
            choice.glob.as_ref().map(|glob| (glob.compile_matcher(), choice.mode))
        });
        let others = choices.iter().rfind(|choice| choice.glob.is_none());
        Self { named: named.collect(), others: others.map_or(Xdp::Off, |choice| choice.mode) }
    }

    /// Whether no device has such a program.
    #[must_use]
    pub fn are_off(&self) -> bool {
        self.others == Xdp::Off && self.named.iter().all(|(_, mode)| *mode == Xdp::Off)
    }

    /// How frames of an uplink are handled in a driver, if they are. Those of a VLAN come by the driver of its lower
    /// device, those of a bond by its legs'. A veth has a program only if the uplink is named: it would lose its
    /// large segments, and more than half of what TCP gets through it.
    pub(super) fn of(&self, snapshot: &Snapshot, index: u32) -> Option<Driven> {
        let link = snapshot.links.get(&index).filter(|link| link.header == LinkHeader::Ethernet)?;
        let named = self.named.iter().find(|(glob, _)| glob.is_match(&link.name));
        let mode = named.map_or(self.others, |(_, mode)| *mode);
        // Behind drivers the kernel runs it on any device.
        let lower = link.vlan.zip(link.counterpart.filter(|_| mode == Xdp::Native));
        let (vlan, device) = lower.unwrap_or((0, index));
        let legs = snapshot.links.iter().filter(|(_, leg)| leg.master == Some(device));
        let lowest = snapshot.links.get(&device)?;
        let is_bond = lowest.kind == LinkKind::Bond && mode == Xdp::Native;
        let legs: BTreeMap<u32, &Link> =
            legs.filter(|_| is_bond).map(|(leg, link)| (*leg, link)).collect();
        let receivers = if is_bond { legs.values().copied().collect() } else { vec![lowest] };
        let is_on_it = |other: &Link| other.vlan.is_some() && other.counterpart == Some(device);
        let mut driven = Driven {
            mode,
            device,
            name: lowest.name.clone(),
            receivers: receivers.into_iter().map(|link| link.name.clone()).collect(),
            vlan,
            legs: legs.into_keys().collect(),
            is_stacked: mode == Xdp::Generic && is_stacked(link),
            has_vlans: snapshot.links.values().any(is_on_it),
            delivers_by_others: is_bond || lowest.kind == LinkKind::Pair,
        };
        let is_hardware = |device: &u32| {
            let kind = snapshot.links.get(device).map(|link| link.kind);
            matches!(kind, Some(LinkKind::Other | LinkKind::Bond))
        };
        let may_be = named.is_some() || driven.legs.iter().chain([&device]).all(is_hardware);
        let is_known = driven.wire().has_number() && driven.wires().all(Wire::has_number);
        // What comes by others, the bond drops: that is for the stack to do.
        driven.legs.retain(|leg| !snapshot.backups.contains(leg));
        (mode != Xdp::Off && may_be && is_known).then_some(driven)
    }
}

/// Whether frames have been received by another device before they are a device's own. The kernel does without joining
/// them (GRO) only for the sake of a program on the device that receives them: one that it runs itself further up gets
/// joined ones, with partial checksums.
const fn is_stacked(link: &Link) -> bool {
    match link.kind {
        LinkKind::Bond | LinkKind::Bridge | LinkKind::Vrf | LinkKind::Tunnel => true,
        // VLAN, macvlan, ipvlan and their like.
        LinkKind::Other => link.vlan.is_some() || link.counterpart.is_some(),
        LinkKind::Loopback | LinkKind::Pair | LinkKind::Tap | LinkKind::Inner => false,
    }
}

/// How frames of an uplink are handled in a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driven {
    /// Where the program runs.
    pub mode: Xdp,
    /// The device whose driver has it, by interface index: the uplink itself, or the lower device of a VLAN.
    pub device: u32,
    /// Its name.
    pub name: String,
    /// The names of those by whose hardware frames come: that device, or all legs of a bond.
    pub receivers: Vec<String>,
    /// The VLAN whose tag the frames have; zero if they have none.
    pub vlan: u16,
    /// The legs by which a bond takes frames, if that device is one. The drivers of all its legs have the program.
    pub legs: BTreeSet<u32>,
    /// Whether it is wanted behind the driver of a device that is stacked on others. There it would break checksums: it
    /// is not attached, and the operator is told.
    pub is_stacked: bool,
    /// Whether that device has VLANs.
    pub has_vlans: bool,
    /// Whether what it sends is sent by others' drivers: a bond's by its legs', a veth's by the other end's.
    pub delivers_by_others: bool,
}

impl Driven {
    /// By which wire frames leave.
    #[must_use]
    pub const fn wire(&self) -> Wire {
        Wire::new(self.device, self.vlan)
    }

    /// By which wires they come.
    pub fn wires(&self) -> impl Iterator<Item = Wire> + '_ {
        let legs = self.legs.iter().map(|leg| Wire::new(*leg, self.vlan));
        legs.chain([self.wire()])
    }
}

#[cfg(test)]
mod tests;
