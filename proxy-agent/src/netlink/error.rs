// SPDX-License-Identifier: Apache-2.0
//! Why the kernel has not told something.

use std::io;

use netlink_packet_core::DecodeError;
use rustix::io::Errno;
use thiserror::Error;

use super::channel::PATIENCE;

/// Why the kernel has not told what it was asked for, which the texts name.
#[derive(Debug, Error)]
pub enum AskError {
    /// No socket.
    #[error("cannot open a netlink socket for {0}")]
    Open(&'static str, #[source] io::Error),
    /// The request did not get out, or no answer in.
    #[error("cannot ask the kernel for {0}")]
    Exchange(&'static str, #[source] io::Error),
    /// No answer in time.
    #[error("the kernel did not answer a request for {0} within {PATIENCE:?}")]
    Silent(&'static str),
    /// The kernel answered with an error.
    #[error("the kernel refused a request for {0}")]
    Refused(&'static str, #[source] Errno),
    /// A message is not as the kernel writes it.
    #[error("what the kernel says cannot be read")]
    Malformed(#[from] DecodeError),
}
