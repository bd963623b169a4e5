// SPDX-License-Identifier: Apache-2.0
//! Why sockets could not be listed or ended.

use netlink_packet_core::DecodeError;
use rustix::io::Errno;
use thiserror::Error;

use super::{DUMP_ATTEMPTS, PATIENCE};

/// The kernel could not be asked, or said no.
#[derive(Debug, Error)]
pub enum Error {
    /// No socket.
    #[error("cannot open a netlink socket for socket diagnostics")]
    Open(#[source] Errno),
    /// The request did not get out, or no answer in.
    #[error("cannot ask the kernel for sockets")]
    Exchange(#[source] Errno),
    /// No answer in time.
    #[error("the kernel did not answer a request for sockets within {PATIENCE:?}")]
    Silent,
    /// The kernel answered with an error.
    #[error("the kernel refused a request for sockets")]
    Refused(#[source] Errno),
    /// The kernel was built without what is needed.
    #[error(transparent)]
    Lacks(#[from] Lacking),
    /// A message is longer than any that the kernel sends.
    #[error("the kernel's list of sockets has a message of {0} bytes, more than is expected")]
    Truncated(usize),
    /// A message is not as the kernel writes it.
    #[error("the kernel's list of sockets cannot be read")]
    Malformed(#[from] DecodeError),
    /// The tables changed each time while they were read.
    #[error("the kernel's list of sockets changed while it was read, {DUMP_ATTEMPTS} times")]
    Restless,
}

/// What the kernel was built without, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Lacking {
    /// `CONFIG_INET_UDP_DIAG`, which most distributions build as a module.
    #[error(
        "the kernel does not list UDP sockets (CONFIG_INET_UDP_DIAG; `modprobe udp_diag` if it is \
         a module): UDP clients on the node itself that have connected their socket keep sending \
         to an endpoint that has gone, until they connect anew by themselves"
    )]
    Dumps,
    /// `CONFIG_INET_DIAG_DESTROY`.
    #[error(
        "the kernel does not end sockets for others (CONFIG_INET_DIAG_DESTROY): UDP clients on \
         the node itself that have connected their socket keep sending to an endpoint that has \
         gone, until they connect anew by themselves"
    )]
    Destroy,
}
