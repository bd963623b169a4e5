// SPDX-License-Identifier: Apache-2.0

//! A stream on which the server has said who it is.

use std::io;
use std::net::{SocketAddr, TcpStream};

use super::{answer, client};

/// A connection or association on which the server's line has been read.
#[derive(Debug)]
pub struct Greeted {
    pub(super) stream: TcpStream,
    server: String,
    source: SocketAddr,
}

impl Greeted {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        let (server, source) = answer::parse(&client::read_line(&stream)?)?;
        Ok(Self { stream, server, source })
    }

    /// The name of the host that has answered.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The client's address and port as the server sees them.
    #[must_use]
    pub const fn source(&self) -> SocketAddr {
        self.source
    }

    /// The client's own address and port.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// The server's address and port as the client's kernel names them.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
