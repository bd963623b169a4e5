// SPDX-License-Identifier: Apache-2.0

//! Clients over TCP.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::client::{Asker, PATIENCE, left};
use super::journal::Journal;
use super::request::{ANSWER, RequestId};
use super::tcp_info::TcpInfo;

/// The round-trip time of a handshake in which something was lost: Linux sends it again after a second.
const LOST: Duration = Duration::from_millis(900);
/// How often a segment is sent again where something is lost. Once may be for an acknowledgement that comes late, when
/// the machine has stood still for a moment; several times, each after twice as long, is for at least a second.
const AGAIN_AND_AGAIN: u32 = 3;

/// Asks each time by a connection of its own.
pub(super) struct ByNewConnections {
    pub(super) target: SocketAddr,
}

impl Asker for ByNewConnections {
    fn ask(&mut self, id: RequestId, sent: Instant, journal: &mut Journal) -> io::Result<String> {
        let stream = connect(&self.target, id, sent, journal)?;
        exchange(&stream, id, sent, journal)
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
            connect(&self.target, id, sent, journal)?
        };
        let server = exchange(&stream, id, sent, journal)?;
        self.stream = Some(stream);
        Ok(server)
    }
}

/// Connects, and notes if a packet of the handshake was lost.
fn connect(
    target: &SocketAddr,
    id: RequestId,
    sent: Instant,
    journal: &mut Journal,
) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(target, PATIENCE)?;
    let TcpInfo { sent_again, round_trip } = TcpInfo::of(&stream)?;
    if sent_again > 0 || round_trip > LOST {
        let what = format_args!("{sent_again} SYNs again, a handshake in {round_trip:?}");
        journal.sent_again(id, sent, &what);
    }
    Ok(stream)
}

/// Sends a request, and waits for the answer for as long as is left.
fn exchange(
    mut stream: &TcpStream,
    id: RequestId,
    sent: Instant,
    journal: &mut Journal,
) -> io::Result<String> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let before = TcpInfo::of(stream)?.sent_again;
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
    let again = TcpInfo::of(stream)?.sent_again - before;
    if again >= AGAIN_AND_AGAIN {
        journal.sent_again(id, sent, &format_args!("{again} segments"));
    }
    let (answered, server) = RequestId::read_answer(&answer)?;
    if answered == id {
        Ok(server)
    } else {
        let what = format!("the answer to request {answered} came for {id}");
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }
}
