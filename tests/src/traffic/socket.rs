// SPDX-License-Identifier: Apache-2.0

//! Sockets in a host's namespace.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};

use crate::protocol::Protocol;
use crate::topology::Host;

/// A socket of `host` for the family of `address`; in SCTP, of the one-to-one
/// style.
///
/// The address of a connection may be used again at once. That of a UDP socket never has to wait, and
/// Linux would give a port of its own choice to two UDP sockets that both allow this: one of them
/// would get the answers of the other.
pub(super) fn open(host: &Host, address: SocketAddr, protocol: Protocol) -> Result<Socket> {
    let (kind, protocol) = match protocol {
        Protocol::Tcp => (Type::STREAM, socket2::Protocol::TCP),
        Protocol::Udp => (Type::DGRAM, socket2::Protocol::UDP),
        Protocol::Sctp => (Type::STREAM, socket2::Protocol::SCTP),
    };
    let socket = host.namespace().run(|| {
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        socket.set_reuse_address(kind == Type::STREAM)?;
        Ok(socket)
    });
    socket.with_context(|| format!("opening a socket in {}", host.name()))
}

/// Gives a socket an address.
pub(super) fn name(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    once_released(io::ErrorKind::AddrInUse, || socket.bind(&address.into()))
}

/// Takes a port, again and again for a second while that fails with `held`.
///
/// The socket that had the port before is closed, but children of this process hold it, too, between
/// their `fork` and their `exec`.
pub fn once_released<T>(held: io::ErrorKind, take: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let start = Instant::now();
    loop {
        match take() {
            Err(error) if error.kind() == held && start.elapsed() < Duration::from_secs(1) => {
                thread::sleep(Duration::from_millis(1));
            }
            taken => return taken,
        }
    }
}

/// A socket of `host` that is bound to `address` and does not block, as
/// tokio wants it.
pub(crate) fn bind(host: &Host, address: SocketAddr, protocol: Protocol) -> Result<Socket> {
    let socket = open(host, address, protocol)?;
    let bound = socket.set_nonblocking(true).and_then(|()| name(&socket, address));
    bound.with_context(|| format!("binding {address} in {}", host.name()))?;
    Ok(socket)
}

/// Makes an I/O error of any error, keeping it as the source.
pub(super) fn io_error(error: anyhow::Error) -> io::Error {
    error.downcast::<io::Error>().unwrap_or_else(io::Error::other)
}
