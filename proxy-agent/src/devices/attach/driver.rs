// SPDX-License-Identifier: Apache-2.0
//! The program in drivers. A driver may have the frames of several devices: of VLANs, and its own.

use std::collections::{BTreeMap, BTreeSet};

use aya::programs::{XdpMode, links::FdLink};
use thiserror::Error;

use super::{AttachError, pair::is_on};
use crate::{
    bpf::{self, Object, object::XDP},
    devices::xdp::{Driven, Xdp},
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

/// All drivers that have it, by the interface index of their device.
#[derive(Debug, Default)]
pub(super) struct Drivers(BTreeMap<u32, Driver>);

impl Drivers {
    /// Puts the program where frames of a device come by, or takes it off. Where it had gone missing and cannot be put
    /// again, no user of that driver has one any more: [`Drivers::of`] says so.
    pub(super) fn attach(
        &mut self,
        object: &mut Object,
        user: u32,
        driven: Option<&Driven>,
    ) -> Result<(), DriverError> {
        self.release(user, driven.map(|driven| driven.device));
        let Some(driven) = driven else { return Ok(()) };
        let (device, wanted) = (driven.device, driven.mode);
        if driven.is_stacked {
            self.release(user, None);
            return Err(DriverError::Stacked { device });
        }
        if let Some(driver) = self.0.get_mut(&device)
            && driver.is_in_place(device)?
        {
            if driver.mode == wanted {
                let _: bool = driver.users.insert(user);
                return Ok(());
            }
            let has = driver.mode;
            if driver.users.iter().any(|other| *other != user) {
                let _: bool = driver.users.remove(&user);
                return Err(DriverError::OtherMode { device, has, wanted });
            }
        }
        // A device takes one program: what is left of the former link goes before the next one comes.
        let former = self.0.remove(&device).filter(|driver| driver.mode == wanted);
        let users = former.map(|driver| driver.users).unwrap_or_default();
        let mut attached = Driver::attach(object, driven)?;
        attached.users.extend(users.into_iter().chain([user]));
        let _: Option<Driver> = self.0.insert(device, attached);
        Ok(())
    }

    /// Where the program runs for a device.
    pub(super) fn of(&self, user: u32) -> Option<Xdp> {
        let mut drivers = self.0.values();
        drivers.find(|driver| driver.users.contains(&user)).map(|driver| driver.mode)
    }

    /// Takes the program off, as far as a device is concerned.
    pub(super) fn detach(&mut self, user: u32) {
        self.release(user, None);
    }

    /// Has a device use no driver but this one.
    fn release(&mut self, user: u32, but: Option<u32>) {
        self.0.retain(|device, driver| {
            if Some(*device) != but {
                let _: bool = driver.users.remove(&user);
            }
            !driver.users.is_empty()
        });
    }
}

/// The program in one driver. Dropped, it is taken off.
#[derive(Debug)]
struct Driver {
    link: FdLink,
    mode: Xdp,
    /// The devices whose frames come by it.
    users: BTreeSet<u32>,
}

impl Driver {
    fn attach(object: &mut Object, driven: &Driven) -> Result<Self, AttachError> {
        let mode = if driven.mode == Xdp::Generic { XdpMode::Skb } else { XdpMode::Driver };
        let program = object.driver_program().map_err(AttachError::Object)?;
        let link = program
            .attach_to_if_index(driven.device, mode)
            .and_then(|id| program.take_link(id))
            .map_err(AttachError::of(XDP, driven.device))?;
        let link = FdLink::try_from(link);
        let link = link.map_err(|error| AttachError::Object(bpf::Error::Link(error)))?;
        Ok(Self { link, mode: driven.mode, users: BTreeSet::new() })
    }

    /// Whether it is there still.
    fn is_in_place(&self, device: u32) -> Result<bool, AttachError> {
        is_on(&self.link, device).map_err(|source| AttachError::LinkInfo { device, source })
    }
}
