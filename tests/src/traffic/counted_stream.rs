// SPDX-License-Identifier: Apache-2.0

//! A connection that stays open and misses nothing.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{answer, client};

/// A connection to a [`TcpServer`](super::TcpServer) on which messages are
/// counted: each must come back, once and in order.
#[derive(Debug)]
pub struct CountedStream {
    stream: TcpStream,
    server: String,
    source: SocketAddr,
    next: u64,
}

impl CountedStream {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (server, source) = answer::parse(&client::read_line(&stream)?)?;
        Ok(Self { stream, server, source, next: 0 })
    }

    /// The name of the host that answered.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The client's address and port as the server saw them.
    #[must_use]
    pub const fn source(&self) -> SocketAddr {
        self.source
    }

    /// The client's own address and port.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// How many messages have come back.
    #[must_use]
    pub const fn exchanged(&self) -> u64 {
        self.next
    }

    /// Sends the next message, reads it back, and returns how long it took.
    pub fn exchange(&mut self) -> io::Result<Duration> {
        let start = Instant::now();
        self.stream.write_all(&self.next.to_be_bytes())?;
        let mut echo = [0; 8];
        self.stream.read_exact(&mut echo)?;
        let got = u64::from_be_bytes(echo);
        if got != self.next {
            let message = format!("message {got} came where {} was due", self.next);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.next += 1;
        Ok(start.elapsed())
    }
}
