// SPDX-License-Identifier: Apache-2.0
//! Puts the programs on devices, and takes them off. They outlive the agent: what is there when it starts gets its new
//! programs in place.
//!
//! The egress program comes first and goes last: what the ingress program translates must find
//! its way back.

use std::collections::BTreeMap;

use tracing::{debug, info};

use super::{
    netlink::{NetlinkError, Requests},
    xdp::Driven,
};
use crate::bpf::{self, DeviceLink, Hook, Links, Object, Version};
use clsact::Clsact;
use driver::Drivers;
pub use driver::InDriver;
pub use error::{AttachError, DriverError};
use pair::{Pair, State};
pub use programs::Programs;
use programs::Side;
pub use take_off::{Filters, TakenOff, Unwanted, devices_with_clsact, links_of, take_off};

mod clsact;
mod driver;
mod error;
mod pair;
mod programs;
mod take_off;

/// How programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// By TCX, unless the kernel does not have it.
    #[default]
    Auto,
    /// As TCX links (kernel 6.6 and later): first on ingress, last on egress.
    Tcx,
    /// As filters of the clsact queueing discipline, of the first priority.
    Clsact,
}

/// What came of attaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The programs are on the device now.
    Now,
    /// They were there already.
    Before,
    /// The device is gone.
    NoDevice,
}

/// Whether what has been put on a device is there still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Whether a program at tc ingress or egress is missing.
    pub misses_programs: bool,
    /// Whether the program in the driver is missing.
    pub misses_driver: bool,
    /// Whether pins had gone, and are there again.
    pub was_repinned: bool,
}

/// Attaches programs, and knows where it has. Dropped, it leaves them where they are.
#[derive(Debug)]
pub struct Attacher {
    mode: AttachMode,
    links: Links,
    requests: Requests,
    attachments: BTreeMap<u32, Pair>,
    drivers: Drivers,
}

impl Attacher {
    /// Works on the devices of the calling thread's network namespace, and must be used in it. Links are pinned in
    /// `links`, and those that are there are adopted.
    ///
    /// # Errors
    ///
    /// If no socket can be opened.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O.
    pub fn new(mode: AttachMode, links: Links) -> Result<Self, NetlinkError> {
        Ok(Self {
            mode,
            drivers: Drivers::new(links.clone()),
            links,
            requests: Requests::open()?,
            attachments: BTreeMap::new(),
        })
    }

    /// Puts these programs of `object` on a device; again if they went missing, and in the place of others that it, or
    /// an agent before, has put there.
    ///
    /// # Errors
    ///
    /// If the kernel refuses. Not if the device is gone: that can always happen.
    pub async fn attach(
        &mut self,
        object: &mut Object,
        device: u32,
        programs: Programs,
    ) -> Result<Attached, AttachError> {
        match self.attach_if_missing(object, device, programs).await {
            Err(error) if error.is_no_device() => {
                let _ = self.attachments.remove(&device);
                self.remove_links(device)?;
                Ok(Attached::NoDevice)
            }
            result => result,
        }
    }

    /// Puts the program of drivers where frames of a device come by, again if it went missing; or takes it off. The
    /// others must be on the device already: what the driver leaves to the stack is for them.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, as it does where the driver takes no program; where it would hand over frames that the
    /// program cannot handle, or drop those that it sends; and where other devices use the driver in another mode. The
    /// program is off then, as far as the device is concerned. If it had gone missing and cannot be put again, other
    /// devices have lost it, too: see [`Attacher::in_driver`]. Where the kernel cannot be asked about the driver
    /// ([`DriverError::Abilities`]), all stays as it was.
    pub async fn attach_to_driver(
        &mut self,
        object: &mut Object,
        device: u32,
        driven: Option<&Driven>,
    ) -> Result<(), DriverError> {
        self.drivers.attach(object, device, driven).await
    }

    /// Waits until some driver can do more or less than before: [`Attacher::attach_to_driver`] may say something else
    /// then, of whichever device.
    pub async fn driver_news(&mut self) {
        self.drivers.news().await;
    }

    /// Where the program runs in which frames of a device are handled, if they are in a driver.
    #[must_use]
    pub fn in_driver(&self, device: u32) -> Option<InDriver> {
        self.drivers.of(device)
    }

    /// Takes the programs off a device; nothing if there are none or the device is gone.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub async fn detach(&mut self, device: u32) -> Result<(), AttachError> {
        self.drivers.detach(device);
        let _: Option<Pair> = self.attachments.remove(&device);
        self.remove_links(device)?;
        if self.mode == AttachMode::Tcx {
            return Ok(());
        }
        match Clsact::of(&self.requests, device).take_off().await {
            Err(error) if !error.is_no_device() => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether what was put on a device is there still. Links whose pins have gone are pinned again.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked, or a link not be pinned.
    pub async fn look(&mut self, device: u32) -> Result<Looked, AttachError> {
        let programs = match self.attachments.get(&device) {
            Some(pair) => match pair.look(&self.requests).await {
                // Its end will be told of.
                Err(error) if error.is_no_device() => State::InPlace,
                state => state?,
            },
            None => State::InPlace,
        };
        let driver = self.drivers.look(device)?;
        Ok(Looked {
            misses_programs: programs == State::Missing,
            misses_driver: driver == State::Missing,
            was_repinned: [programs, driver].contains(&State::Repinned),
        })
    }

    /// Takes off what an agent before has left where nothing of ours is wanted any more: links that are pinned, and
    /// filters. `is_awaited` says of which devices it is not known yet.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub async fn take_off_others(
        &self,
        version: &Version,
        is_awaited: impl Fn(u32) -> bool,
    ) -> Result<TakenOff, AttachError> {
        let mut links = links_of(version)?;
        links.retain(|unwanted| {
            let link = unwanted.link;
            let is_used = match link.hook {
                Hook::Ingress | Hook::Egress => self.attachments.contains_key(&link.device),
                Hook::NativeXdp | Hook::GenericXdp => self.drivers.has(link),
            };
            !is_used && !is_awaited(link.device)
        });
        let devices = Clsact::devices(&self.requests).await;
        let mut devices = devices.map_err(|source| AttachError::Netlink { device: 0, source })?;
        devices.retain(|device| !self.attachments.contains_key(device) && !is_awaited(*device));
        take_off(&links, Filters::OfDevices(&devices)).await
    }

    /// Takes the links of a device off, ingress first.
    fn remove_links(&self, device: u32) -> Result<(), bpf::Error> {
        for side in Side::BOTH {
            let link = DeviceLink { device, hook: side.hook() };
            let _: bool = self.links.remove(&link.to_string())?;
        }
        Ok(())
    }

    async fn attach_if_missing(
        &mut self,
        object: &mut Object,
        device: u32,
        programs: Programs,
    ) -> Result<Attached, AttachError> {
        if let Some(pair) = self.attachments.get(&device) {
            if pair.programs() == programs && pair.look(&self.requests).await? != State::Missing {
                return Ok(Attached::Before);
            }
            debug!(device, "the programs have gone missing, or others are wanted");
        }
        let pair = self.put(object, device, programs).await?;
        let _ = self.attachments.insert(device, pair);
        Ok(Attached::Now)
    }

    /// Puts the programs on a device, whatever is there.
    async fn put(
        &mut self,
        object: &mut Object,
        device: u32,
        programs: Programs,
    ) -> Result<Pair, AttachError> {
        let clsact = Clsact::of(&self.requests, device);
        if self.mode == AttachMode::Auto {
            // Before filters are removed that may have to stay.
            self.mode = if Pair::can_be_by_tcx(&self.requests, device).await? {
                AttachMode::Tcx
            } else {
                info!("the kernel does not have TCX: attaching by clsact");
                AttachMode::Clsact
            };
        }
        if self.mode == AttachMode::Tcx {
            // Of an agent that attached the other way: right before.
            clsact.take_off().await?;
            return Pair::by_tcx(&self.requests, object, &self.links, device, programs).await;
        }
        let made_clsact = clsact.add().await? || clsact.is_made().await?;
        self.remove_links(device)?;
        let put =
            Pair::by_clsact(&self.requests, object, &self.links, device, programs, made_clsact)
                .await;
        if put.is_err() && made_clsact {
            clsact.remove_if_empty().await?;
        }
        put
    }
}
