// SPDX-License-Identifier: Apache-2.0
//! What can go wrong on a device.

use std::{error::Error as StdError, io};

use aya::programs::ProgramError;
use rustix::io::Errno;
use thiserror::Error;

use super::NetlinkError;
use crate::bpf;

/// A device cannot be fitted with programs, or not be freed of them.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The object has no such program.
    #[error("cannot attach")]
    Object(#[source] bpf::Error),
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
    /// It cannot be told whether a program is on the device still.
    #[error("cannot read where the links of this process are, as for device {device}")]
    LinkInfo {
        /// The device's interface index.
        device: u32,
        /// Why.
        #[source]
        source: io::Error,
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

    /// Whether there is nothing to take off: no device, no filter, no queueing discipline.
    pub(super) fn is_not_there(&self) -> bool {
        self.is_no_device() || matches!(self.errno(), Some(Errno::NOENT | Errno::INVAL))
    }

    /// Whether the kernel does not know this way to attach.
    pub(super) fn is_unsupported(&self) -> bool {
        // A program that is refused says nothing of how programs are attached.
        !matches!(self, Self::Object(_))
            && matches!(self.errno(), Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::TOOBIG))
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

#[cfg(test)]
mod tests {
    use std::io;

    use aya::{programs::ProgramError, sys::SyscallError};
    use rustix::io::Errno;

    use super::AttachError;
    use crate::bpf;

    fn refused() -> ProgramError {
        let io_error = io::Error::from(Errno::INVAL);
        ProgramError::SyscallError(SyscallError { call: "bpf", io_error })
    }

    #[test]
    fn a_program_that_is_refused_says_nothing_of_tcx() {
        let of_attaching = AttachError::Program { program: "x", device: 1, source: refused() };
        assert!(of_attaching.is_unsupported());
        let of_loading = AttachError::Object(bpf::Error::Program("x".to_owned(), refused()));
        assert!(!of_loading.is_unsupported());
    }
}
