// SPDX-License-Identifier: Apache-2.0

//! Clients over TCP.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::client::{Asker, PATIENCE, left};
use super::journal::Journal;
use super::request::{ANSWER, RequestId};

/// Asks each time by a connection of its own.
pub(super) struct ByNewConnections {
    pub(super) target: SocketAddr,
}

impl Asker for ByNewConnections {
    fn ask(&mut self, id: RequestId, sent: Instant, _: &mut Journal) -> io::Result<String> {
        let stream = TcpStream::connect_timeout(&self.target, PATIENCE)?;
        exchange(&stream, id, sent)
    }
}

/// Asks by one connection for as long as it is good.
pub(super) struct ByOneConnection {
    pub(super) target: SocketAddr,
    pub(super) stream: Option<TcpStream>,
}

impl Asker for ByOneConnection {
    fn ask(&mut self, id: RequestId, sent: Instant, journal: &mut Journal) -> io::Result<String> {
        let stream = if let Some(stream) = self.stream.take() {
            stream
        } else {
            journal.begins_anew();
            TcpStream::connect_timeout(&self.target, PATIENCE)?
        };
        let server = exchange(&stream, id, sent)?;
        self.stream = Some(stream);
        Ok(server)
    }
}

/// Sends a request, and waits for the answer for as long as is left.
fn exchange(mut stream: &TcpStream, id: RequestId, sent: Instant) -> io::Result<String> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&id.to_bytes())?;
    let mut answer = [0; ANSWER];
    let mut length = 0;
    while length < ANSWER {
        stream.set_read_timeout(Some(left(sent)?))?;
        match stream.read(&mut answer[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => length += more,
        }
    }
    let (answered, server) = RequestId::read_answer(&answer)?;
    if answered == id {
        Ok(server)
    } else {
        let what = format!("the answer to request {answered} came for {id}");
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }
}
