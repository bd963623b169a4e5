// SPDX-License-Identifier: Apache-2.0
//! The program in drivers. A driver may have the frames of several devices: of VLANs, and its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
};

use aya::programs::{XdpMode, links::FdLink};
use proxy_common::device::DeviceTraits;
use thiserror::Error;

use super::{AttachError, pair::is_on};
use crate::{
    bpf::{
        self, Object,
        object::{XDP, XDP_GENERIC},
    },
    devices::{
        abilities::{Abilities, AbilityError, AbilityRequests},
        xdp::{Driven, Xdp},
    },
};

/// Frames of a device cannot be handled in a driver.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The kernel refused, or could not be asked.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The kernel may join frames before a program behind the driver sees them, and their checksums are partial then.
    #[error("device {device} is stacked on others: it may get joined frames in mode generic")]
    Stacked {
        /// The device's interface index.
        device: u32,
    },
    /// It cannot be told what the driver can do.
    #[error(transparent)]
    Abilities(#[from] AbilityError),
    /// Frames of VLANs could not be told from the device's own.
    #[error(
        "{name} takes the tags of VLANs off frames before a program sees these: `ethtool -K {name} rxvlan off` has it leave them"
    )]
    TakesTags {
        /// The device's name.
        name: String,
    },
    /// What the program sent would be dropped.
    #[error(
        "what a program sends by {name} would be dropped (no ndo_xdp_xmit): the other end of a veth must have a program of its own or GRO (`ethtool -K NAME gro on`), and each leg of a bond a driver that sends for others"
    )]
    SendsNothing {
        /// The name of the driver's device.
        name: String,
    },
    /// A driver has one program, in one mode.
    #[error(
        "device {device} has its program in mode {} for other devices: not in mode {} as well",
        .has.name(),
        .wanted.name()
    )]
    OtherMode {
        /// The interface index of the driver's device.
        device: u32,
        /// The mode that others use.
        has: Xdp,
        /// The mode that is not to be had.
        wanted: Xdp,
    },
}

/// Where the program runs, and what the driver can do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InDriver {
    /// Where.
    pub mode: Xdp,
    /// What the driver can do.
    pub abilities: Abilities,
}

impl InDriver {
    /// What the programs must know of it.
    #[must_use]
    pub const fn traits(self) -> DeviceTraits {
        let abilities = self.abilities;
        DeviceTraits::when(matches!(self.mode, Xdp::Generic), DeviceTraits::XDP_GENERIC)
            .with(DeviceTraits::when(!abilities.sends_for_others, DeviceTraits::XDP_OWN_FRAMES))
            .with(DeviceTraits::when(
                !abilities.sends_buffers_for_others,
                DeviceTraits::XDP_ONE_BUFFER,
            ))
    }
}

/// All drivers that have it, by the interface index of their device.
#[derive(Debug, Default)]
pub(super) struct Drivers {
    drivers: BTreeMap<u32, Driver>,
    /// From when some driver is to have it.
    requests: Option<AbilityRequests>,
}

impl Drivers {
    /// Puts the program where frames of a device come by, or takes it off. Where it had gone missing and cannot be put
    /// again, no user of that driver has one any more: [`Drivers::of`] says so.
    pub(super) async fn attach(
        &mut self,
        object: &mut Object,
        user: u32,
        driven: Option<&Driven>,
    ) -> Result<(), DriverError> {
        self.release(user, driven.map(|driven| driven.device));
        let Some(driven) = driven else { return Ok(()) };
        let attached = self.attach_if_able(object, user, driven).await;
        if attached.is_err() {
            self.release(user, None);
        }
        attached
    }

    async fn attach_if_able(
        &mut self,
        object: &mut Object,
        user: u32,
        driven: &Driven,
    ) -> Result<(), DriverError> {
        let device = driven.device;
        if driven.is_stacked {
            return Err(DriverError::Stacked { device });
        }
        // Before: many drivers reset their queues when a program comes or goes.
        let requests = match &mut self.requests {
            Some(requests) => requests,
            none => none.insert(AbilityRequests::open().await?),
        };
        for name in driven.receivers.iter().filter(|_| driven.has_vlans) {
            if requests.takes_tags(name).await? {
                return Err(DriverError::TakesTags { name: name.clone() });
            }
        }
        let is_native = driven.mode == Xdp::Native;
        if is_native && driven.delivers_by_others && !requests.of(device).await?.sends_for_others {
            return Err(DriverError::SendsNothing { name: driven.name.clone() });
        }
        attach_if_missing(&mut self.drivers, object, user, driven)?;
        // After: some drivers send for others only while they have a program themselves.
        let abilities = if is_native { requests.of(device).await? } else { Abilities::UNSAID };
        if let Some(driver) = self.drivers.get_mut(&device) {
            driver.abilities = abilities;
        }
        Ok(())
    }

    /// Waits until some driver can do more or less than before.
    pub(super) async fn news(&mut self) {
        match &mut self.requests {
            Some(requests) => requests.news().await,
            None => pending().await,
        }
    }

    /// Where the program runs for a device.
    pub(super) fn of(&self, user: u32) -> Option<InDriver> {
        let driver = self.drivers.values().find(|driver| driver.users.contains(&user))?;
        Some(InDriver { mode: driver.mode, abilities: driver.abilities })
    }

    /// Takes the program off, as far as a device is concerned.
    pub(super) fn detach(&mut self, user: u32) {
        self.release(user, None);
    }

    /// Has a device use no driver but this one.
    fn release(&mut self, user: u32, but: Option<u32>) {
        self.drivers.retain(|device, driver| {
            if Some(*device) != but {
                let _: bool = driver.users.remove(&user);
            }
            !driver.users.is_empty()
        });
    }
}

/// Puts the program into a driver, for a device, unless it is there.
fn attach_if_missing(
    drivers: &mut BTreeMap<u32, Driver>,
    object: &mut Object,
    user: u32,
    driven: &Driven,
) -> Result<(), DriverError> {
    let (device, wanted) = (driven.device, driven.mode);
    if let Some(driver) = drivers.get_mut(&device)
        && driver.is_in_place(device)?
    {
        if driver.mode == wanted {
            let _: bool = driver.users.insert(user);
            return Ok(());
        }
        let has = driver.mode;
        if driver.users.iter().any(|other| *other != user) {
            return Err(DriverError::OtherMode { device, has, wanted });
        }
    }
    // A device takes one program: what is left of the former link goes before the next one comes.
    let former = drivers.remove(&device).filter(|driver| driver.mode == wanted);
    let users = former.map(|driver| driver.users).unwrap_or_default();
    let mut attached = Driver::attach(object, driven)?;
    attached.users.extend(users.into_iter().chain([user]));
    let _: Option<Driver> = drivers.insert(device, attached);
    Ok(())
}

/// The program in one driver. Dropped, it is taken off.
#[derive(Debug)]
struct Driver {
    link: FdLink,
    mode: Xdp,
    abilities: Abilities,
    /// The devices whose frames come by it.
    users: BTreeSet<u32>,
}

impl Driver {
    fn attach(object: &mut Object, driven: &Driven) -> Result<Self, AttachError> {
        let (name, mode) = match driven.mode {
            Xdp::Generic => (XDP_GENERIC, XdpMode::Skb),
            Xdp::Off | Xdp::Native => (XDP, XdpMode::Driver),
        };
        let program = object.driver_program(name).map_err(AttachError::Object)?;
        let link = program
            .attach_to_if_index(driven.device, mode)
            .and_then(|id| program.take_link(id))
            .map_err(AttachError::of(name, driven.device))?;
        let link = FdLink::try_from(link);
        let link = link.map_err(|error| AttachError::Object(bpf::Error::Link(error)))?;
        let abilities = Abilities::UNSAID;
        Ok(Self { link, mode: driven.mode, abilities, users: BTreeSet::new() })
    }

    /// Whether it is there still.
    fn is_in_place(&self, device: u32) -> Result<bool, AttachError> {
        is_on(&self.link, device).map_err(|source| AttachError::LinkInfo { device, source })
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::device::DeviceTraits;

    use super::{Abilities, InDriver, Xdp};

    #[test]
    fn the_programs_are_told_what_a_driver_cannot_do() {
        let traits = |mode, sends_for_others, sends_buffers_for_others| {
            let abilities = Abilities { sends_for_others, sends_buffers_for_others };
            InDriver { mode, abilities }.traits()
        };
        assert_eq!(traits(Xdp::Native, true, true), DeviceTraits::default());
        assert_eq!(traits(Xdp::Native, true, false), DeviceTraits::XDP_ONE_BUFFER);
        let neither = DeviceTraits::XDP_OWN_FRAMES.with(DeviceTraits::XDP_ONE_BUFFER);
        assert_eq!(traits(Xdp::Native, false, false), neither);
        assert_eq!(traits(Xdp::Generic, true, true), DeviceTraits::XDP_GENERIC);
    }
}
