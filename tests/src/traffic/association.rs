// SPDX-License-Identifier: Apache-2.0

//! An SCTP association, as a client has it.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::{answer, client};

/// An association with an [`SctpServer`](super::SctpServer), by a socket of the one-to-one style (RFC
/// 6458 section 4), which is read and written as a stream's.
#[derive(Debug)]
pub struct Association {
    stream: TcpStream,
    server: String,
    source: SocketAddr,
}

impl Association {
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

    /// The server's address and port as the client's kernel names them.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// Sends a message of `length` bytes, which must come back.
    pub fn exchange(&mut self, length: usize) -> io::Result<()> {
        let message: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
        self.stream.write_all(&message)?;
        let mut returned = vec![0; length];
        self.stream.read_exact(&mut returned)?;
        if returned == message {
            Ok(())
        } else {
            let what = format!("something else than these {length} bytes came back");
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        }
    }

    /// Shuts it down, and waits until the server has said that it is over.
    pub fn end(mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        match self.stream.read(&mut [0]) {
            Ok(0) => Ok(()),
            // What Linux says when there is none any more. An end by ABORT is a reset.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "more came than was due")),
            Err(error) => Err(error),
        }
    }
}
