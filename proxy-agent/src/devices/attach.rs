// SPDX-License-Identifier: Apache-2.0
//! Puts the programs on devices, and takes them off.
//!
//! The egress program comes first and goes last: what the ingress program translates must find
//! its way back.

use std::collections::BTreeMap;

use tracing::{debug, info};

use super::{
    classify::Role,
    netlink::{NetlinkError, Requests},
    xdp::Driven,
};
use crate::bpf::Object;
use clsact::Clsact;
use driver::Drivers;
pub use driver::{DriverError, InDriver};
pub use error::AttachError;
use pair::Pair;
pub use programs::Programs;

mod clsact;
mod driver;
mod error;
mod pair;
mod programs;

/// How programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// By TCX, unless the first attempt shows that the kernel does not have it.
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

/// Attaches programs, and knows where it has.
///
/// Dropped without [`Attacher::detach_all`], it still detaches the programs, but leaves empty
/// queueing disciplines behind.
#[derive(Debug)]
pub struct Attacher {
    mode: AttachMode,
    requests: Requests,
    attachments: BTreeMap<u32, Pair>,
    drivers: Drivers,
}

impl Attacher {
    /// Works on the devices of the calling thread's network namespace, and must be used in it.
    ///
    /// # Errors
    ///
    /// If no socket can be opened.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O.
    pub fn new(mode: AttachMode) -> Result<Self, NetlinkError> {
        Ok(Self {
            mode,
            requests: Requests::open()?,
            attachments: BTreeMap::new(),
            drivers: Drivers::default(),
        })
    }

    /// Puts these programs of `object` on a device; again if they went missing, and instead of
    /// others that it has put there.
    /// Programs that an earlier agent left in the device's clsact filters are removed first.
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
    /// program cannot handle, or drop those that it sends; and where other devices use the driver in another mode. If
    /// the program had gone missing and cannot be put again, other devices have lost it, too: see
    /// [`Attacher::in_driver`].
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
        let Some(pair) = self.attachments.remove(&device) else {
            return Ok(());
        };
        match pair.detach(&self.requests).await {
            Err(error) if !error.is_no_device() => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes the programs off all devices, and tells of those where it could not. Guards go first:
    /// what pods send then is not to be held back.
    pub async fn detach_all(&mut self) -> Vec<AttachError> {
        let mut devices: Vec<_> = self.attachments.iter().collect();
        devices.sort_by_key(|(_, pair)| pair.programs().role == Role::Workload);
        let devices: Vec<_> = devices.into_iter().map(|(device, _)| *device).collect();
        let mut errors = Vec::new();
        for device in devices {
            errors.extend(self.detach(device).await.err());
        }
        errors
    }

    async fn attach_if_missing(
        &mut self,
        object: &mut Object,
        device: u32,
        programs: Programs,
    ) -> Result<Attached, AttachError> {
        if let Some(pair) = self.attachments.get(&device) {
            if pair.programs() == programs && pair.is_in_place(&self.requests).await? {
                return Ok(Attached::Before);
            }
            debug!(device, "the programs have gone missing, or others are wanted");
            // What is left of them goes before others come: clsact's filters have one handle.
            self.detach(device).await?;
        }
        let pair = self.attach_anew(object, device, programs).await?;
        let _ = self.attachments.insert(device, pair);
        Ok(Attached::Now)
    }

    async fn attach_anew(
        &mut self,
        object: &mut Object,
        device: u32,
        programs: Programs,
    ) -> Result<Pair, AttachError> {
        let clsact = Clsact::of(&self.requests, device);
        let inherited_clsact = clsact.remove_orphans().await?;
        if self.mode != AttachMode::Clsact {
            match Pair::by_tcx(&self.requests, object, device, programs).await {
                Ok(pair) => {
                    self.mode = AttachMode::Tcx;
                    if inherited_clsact {
                        clsact.remove_if_empty().await?;
                    }
                    return Ok(pair);
                }
                Err(error) if self.mode == AttachMode::Auto && error.is_unsupported() => {
                    info!("the kernel does not have TCX: attaching by clsact");
                    self.mode = AttachMode::Clsact;
                }
                Err(error) => return Err(error),
            }
        }
        let made_clsact = clsact.add().await? || inherited_clsact;
        let attached = Pair::by_clsact(&self.requests, object, device, programs, made_clsact).await;
        if attached.is_err() && made_clsact {
            clsact.remove_if_empty().await?;
        }
        attached
    }
}
