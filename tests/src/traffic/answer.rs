// SPDX-License-Identifier: Apache-2.0

//! What a server answers, and what a client gets instead.

use std::net::SocketAddr;
use std::time::Duration;
use std::{error, fmt, io};

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name of the host that answered.
    pub server: String,
    /// The client's address and port as the server saw them.
    pub source: SocketAddr,
    /// The server's address and port as the client's kernel names them: the
    /// peer of the connection, or where the datagram came from. IPv4 ones are
    /// mapped where the client's socket is of IPv6.
    pub peer: SocketAddr,
    /// From the connect or the datagram to the answer.
    pub elapsed: Duration,
}

/// Why there was no answer.
#[derive(Debug)]
pub struct Failure {
    /// What the system or the server's answer said.
    pub error: io::Error,
    /// From the connect or the datagram to the error.
    pub elapsed: Duration,
}

impl Failure {
    /// Whether the connection or datagram was refused: by a RST, or by an
    /// ICMP port unreachable.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.error.kind() == io::ErrorKind::ConnectionRefused
    }

    /// Whether there is no way to a host that would answer: what a socket is
    /// told where a packet would be dropped.
    #[must_use]
    pub fn is_no_way(&self) -> bool {
        self.error.kind() == io::ErrorKind::HostUnreachable
    }

    /// Whether nobody answered in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no answer after {:?}: {}", self.elapsed, self.error)
    }
}

impl error::Error for Failure {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The line that a server sends.
pub(super) fn line(server: &str, source: SocketAddr) -> String {
    format!("{server} {source}\n")
}

/// Reads the line that a server sent.
pub(super) fn parse(line: &str) -> io::Result<(String, SocketAddr)> {
    line.trim_end()
        .split_once(' ')
        .and_then(|(server, source)| Some((server.to_owned(), source.parse().ok()?)))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{line:?} is no answer")))
}
