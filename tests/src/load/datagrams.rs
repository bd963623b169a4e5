// SPDX-License-Identifier: Apache-2.0

//! Clients over UDP.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use nix::libc;

use super::client::{Asker, left};
use super::journal::Journal;
use super::request::{ANSWER, RequestId};
use crate::family::IpFamily;

/// Asks by one socket, whose port stays.
pub(super) struct ByDatagrams {
    target: SocketAddr,
    socket: UdpSocket,
    /// Whether it is to be connected.
    connects: bool,
    /// Whether it is.
    connected: bool,
}

impl ByDatagrams {
    /// A socket at `port`, which it keeps when the kernel ends it: answers that are on their way
    /// still come.
    pub(super) fn new(target: SocketAddr, port: u16, connects: bool) -> io::Result<Self> {
        let any = IpFamily::of(target.ip()).unspecified();
        let socket = UdpSocket::bind(SocketAddr::new(any, port))?;
        Ok(Self { target, socket, connects, connected: false })
    }

    /// Sends a request once.
    fn send(&mut self, id: RequestId, sent: Instant, journal: &mut Journal) -> io::Result<()> {
        if !self.connects {
            return self.socket.send_to(&id.to_bytes(), self.target).map(drop);
        }
        // Twice, as it may be ended between the connect and the send, which then sends nothing.
        for _ in 0..2 {
            if let Some(error) = self.socket.take_error()? {
                self.ended_by(error, id, sent, journal)?;
            }
            if !self.connected {
                self.socket.connect(self.target)?;
                self.connected = true;
            }
            match self.socket.send(&id.to_bytes()) {
                Err(error) if error.raw_os_error() == Some(libc::EDESTADDRREQ) => {}
                Err(error) => self.ended_by(error, id, sent, journal)?,
                Ok(_) => return Ok(()),
            }
        }
        Err(ErrorKind::NotConnected.into())
    }

    /// Goes on if the error says that the kernel has ended the socket.
    fn ended_by(
        &mut self,
        error: io::Error,
        id: RequestId,
        sent: Instant,
        journal: &mut Journal,
    ) -> io::Result<()> {
        if error.kind() != ErrorKind::ConnectionAborted {
            return Err(error);
        }
        self.connected = false;
        journal.was_ended(id, sent);
        Ok(())
    }
}

impl Asker for ByDatagrams {
    fn ask(&mut self, id: RequestId, sent: Instant, journal: &mut Journal) -> io::Result<String> {
        self.send(id, sent, journal)?;
        let mut answer = [0; ANSWER + 1];
        loop {
            self.socket.set_read_timeout(Some(left(sent)?))?;
            let (length, from) = match self.socket.recv_from(&mut answer) {
                Ok(received) => received,
                Err(error) => {
                    self.ended_by(error, id, sent, journal)?;
                    continue;
                }
            };
            let (answered, server) = RequestId::read_answer(&answer[..length])?;
            if answered != id {
                journal.heard_again(answered);
                continue;
            }
            if from != self.target && !self.connects {
                let what = format!("{server} answers as {from}");
                return Err(io::Error::new(ErrorKind::InvalidData, what));
            }
            // Whoever is connected hears it all the same. An ended socket is not.
            if from != self.target && self.connected {
                journal.heard_from(id, sent, from);
            }
            return Ok(server);
        }
    }
}
