// SPDX-License-Identifier: Apache-2.0
//! Network namespaces, as the programs tell them apart.

use std::io;

use nix::{getsockopt_impl, libc, sockopt_impl, sys::socket::getsockopt};
use rustix::net::{AddressFamily, SocketType, socket};

sockopt_impl!(
    /// The cookie of a socket's network namespace (Linux commit e8b9eab99232): a number that no
    /// other namespace gets until the node boots anew.
    NetnsCookie,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64
);

/// The cookie of this thread's network namespace.
///
/// # Errors
///
/// If there can be no socket.
pub fn netns_cookie() -> io::Result<u64> {
    // A local socket, since a kernel may lack either IP family.
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    Ok(getsockopt(&socket, NetnsCookie)?)
}
