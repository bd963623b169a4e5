// SPDX-License-Identifier: Apache-2.0
//! Takes what is ours off devices, whoever has put it there, in an order in which packets are spared.

use std::collections::BTreeSet;

use crate::bpf::{self, Hook, Links};

use super::{
    AttachError, Requests,
    clsact::{Clsact, Filter},
    programs::Side,
};
use crate::bpf::DeviceLink;

/// A pinned link that is to go.
#[derive(Debug)]
pub struct Unwanted {
    /// Where it is pinned.
    pub links: Links,
    /// What it is.
    pub link: DeviceLink,
    /// Whether its program holds packets back where they leave the node.
    pub is_guard: bool,
}

/// How much has been taken off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenOff {
    /// Links, of TCX and in drivers.
    pub links: usize,
    /// Filters of clsact.
    pub filters: usize,
    /// Queueing disciplines that we had made.
    pub disciplines: usize,
}

/// When it is whose turn. Guards go first: what pods send once nothing translates it is not to be held back. What
/// translates requests goes before what translates their replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Guards,
    Requests,
    Replies,
}

impl Turn {
    const fn of(is_ingress: bool, is_guard: bool) -> Self {
        match (is_ingress, is_guard) {
            (_, true) => Self::Guards,
            (true, false) => Self::Requests,
            (false, false) => Self::Replies,
        }
    }

    fn of_link(unwanted: &Unwanted) -> Self {
        Self::of(unwanted.link.hook != Hook::Egress, unwanted.is_guard)
    }

    fn of_filter(side: Side, filter: &Filter) -> Self {
        Self::of(side == Side::Ingress, filter.is_guard(side))
    }
}

/// The devices of this network namespace that have a clsact queueing discipline, whoever has made it.
///
/// # Errors
///
/// If the kernel does not say so.
pub async fn devices_with_clsact() -> Result<Vec<u32>, super::NetlinkError> {
    Clsact::devices(&Requests::open()?).await
}

/// Filters that are to go.
#[derive(Clone, Copy, Debug)]
pub enum Filters<'a> {
    /// All of ours, at the clsact of these devices.
    OfDevices(&'a [u32]),
    /// Those of these programs, by id, at the clsact of these devices.
    OfPrograms(&'a BTreeSet<u32>, &'a [u32]),
}

impl Filters<'_> {
    /// At which devices they may be.
    const fn devices(&self) -> &[u32] {
        match self {
            Self::OfDevices(devices) | Self::OfPrograms(_, devices) => devices,
        }
    }

    /// Whether one of ours is among them.
    fn have(&self, filter: &Filter) -> bool {
        match self {
            Self::OfDevices(_) => true,
            Self::OfPrograms(programs, _) => filter.is_of(programs),
        }
    }
}

/// Takes links off, and filters, in the network namespace of the calling thread. Devices that go meanwhile are no harm.
///
/// # Errors
///
/// If the kernel refuses; the rest stays then.
pub async fn take_off(links: &[Unwanted], filters: Filters<'_>) -> Result<TakenOff, AttachError> {
    let requests = Requests::open().map_err(|source| AttachError::Netlink { device: 0, source })?;
    let mut taken = TakenOff::default();
    let mut made = Vec::new();
    for turn in [Turn::Guards, Turn::Requests, Turn::Replies] {
        for unwanted in links.iter().filter(|unwanted| Turn::of_link(unwanted) == turn) {
            let name = unwanted.link.to_string();
            taken.links += usize::from(unwanted.links.remove(&name)?);
        }
        for device in filters.devices() {
            let clsact = Clsact::of(&requests, *device);
            match take_filters(&clsact, filters, turn).await {
                Err(error) if error.is_no_device() => {}
                Err(error) => return Err(error),
                Ok((removed, made_clsact)) => {
                    taken.filters += removed;
                    made.extend(made_clsact.then_some(*device));
                }
            }
        }
    }
    made.sort_unstable();
    made.dedup();
    for device in made {
        match Clsact::of(&requests, device).remove_if_empty().await {
            Err(error) if !error.is_no_device() => return Err(error),
            _ => taken.disciplines += 1,
        }
    }
    Ok(taken)
}

/// Removes those of these filters whose turn it is; says how many, and whether one says that we have made the discipline.
async fn take_filters(
    clsact: &Clsact<'_>,
    filters: Filters<'_>,
    turn: Turn,
) -> Result<(usize, bool), AttachError> {
    let (mut removed, mut made_clsact) = (0, false);
    for side in Side::BOTH {
        for own in clsact.own(side).await? {
            if filters.have(&own) && Turn::of_filter(side, &own) == turn {
                clsact.remove(side, &own).await?;
                removed += 1;
                made_clsact |= own.made_clsact();
            }
        }
    }
    Ok((removed, made_clsact))
}

/// The links of devices that are pinned in a version's directory.
///
/// # Errors
///
/// If they cannot be read.
pub fn links_of(version: &bpf::Version) -> Result<Vec<Unwanted>, bpf::Error> {
    let links = version.links();
    let guards = bpf::guard_programs(&version.programs());
    let is_guard = |link: DeviceLink| -> Result<bool, bpf::Error> {
        let opened = links.open(&link.to_string())?;
        let state = opened.map(|opened| opened.state()).transpose()?;
        Ok(link.hook == Hook::Egress && state.is_some_and(|state| guards.contains(&state.program)))
    };
    let of_devices = links.of_devices()?.into_iter();
    of_devices
        .map(|link| Ok(Unwanted { links: links.clone(), link, is_guard: is_guard(link)? }))
        .collect()
}
