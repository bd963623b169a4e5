// SPDX-License-Identifier: Apache-2.0
//! What can go wrong on a device.

use std::{error::Error as StdError, io};

use aya::programs::ProgramError;
use rustix::io::Errno;
use thiserror::Error;

use super::NetlinkError;
use crate::{
    bpf,
    devices::{abilities::AbilityError, xdp::Xdp},
};

/// A device cannot be fitted with programs, or not be freed of them.
#[derive(Debug, Error)]
pub enum AttachError {
    /// A program cannot be had, or a link not be handled.
    #[error(transparent)]
    Object(#[from] bpf::Error),
    /// The kernel refused to attach or detach a program.
    #[error("cannot attach or detach {program} on device {device}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The device's interface index.
        device: u32,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// The kernel could not be asked about the device, its queueing discipline or its filters.
    #[error("cannot look after device {device}")]
    Netlink {
        /// The device's interface index.
        device: u32,
        /// Why.
        #[source]
        source: NetlinkError,
    },
    /// There is no such device.
    #[error("device {device} is gone")]
    NoDevice {
        /// The interface index that it had.
        device: u32,
    },
    /// The device was renamed each time that a program was to be attached.
    #[error("device {device} is renamed all the time")]
    Renamed {
        /// The device's interface index.
        device: u32,
    },
}

impl AttachError {
    /// Of a program on a device.
    pub(super) fn of(program: &'static str, device: u32) -> impl Fn(ProgramError) -> Self {
        move |source| Self::Program { program, device, source }
    }

    /// Whether all that is wrong is that the device is not there any more.
    pub(super) fn is_no_device(&self) -> bool {
        matches!(self, Self::NoDevice { .. }) || self.errno() == Some(Errno::NODEV)
    }

    /// Whether the kernel does not know this way to attach.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self.errno(), Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::TOOBIG))
    }

    /// The kernel's error number, wherever in the chain of sources it is.
    fn errno(&self) -> Option<Errno> {
        let mut source = StdError::source(self);
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return Errno::from_io_error(error);
            }
            source = error.source();
        }
        None
    }
}

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
