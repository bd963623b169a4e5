// SPDX-License-Identifier: Apache-2.0

//! UDP sockets that stay and ask again and again.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use super::client::timed;
use super::{Answer, Failure};
use crate::family::AddressForm;

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 512;

/// A UDP socket of a host that asks [`UdpServer`](super::UdpServer)s.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: UdpSocket,
    form: AddressForm,
    asked: u64,
}

impl DatagramSocket {
    pub(super) const fn new(socket: UdpSocket, form: AddressForm) -> Self {
        Self { socket, form, asked: 0 }
    }

    /// Asks whom it is connected to; an error if it is to nobody.
    pub fn ask(&mut self) -> Result<Answer, Failure> {
        timed(|| self.exchange(None))
    }

    /// Asks `target` by `sendto`, whoever it is connected to.
    pub fn ask_at(&mut self, target: SocketAddr) -> Result<Answer, Failure> {
        timed(|| self.exchange(Some(target)))
    }

    /// Connects it to `target`, or to another than before.
    pub fn connect(&self, target: SocketAddr) -> io::Result<()> {
        self.socket.connect(self.form.of(target))
    }

    /// The socket itself, for more than one question at a time.
    #[must_use]
    pub const fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Whom the kernel says it is connected to.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// Sends a question and returns the answer's line and where it came
    /// from; answers to earlier questions, which were given up, are skipped.
    pub(super) fn exchange(
        &mut self,
        target: Option<SocketAddr>,
    ) -> io::Result<(String, SocketAddr)> {
        self.asked += 1;
        let question = self.asked.to_be_bytes();
        let _ = match target {
            Some(target) => self.socket.send_to(&question, self.form.of(target))?,
            None => self.socket.send(&question)?,
        };
        let mut reply = [0; LONGEST_ANSWER];
        loop {
            let (length, from) = self.socket.recv_from(&mut reply)?;
            if let Some(line) = reply[..length].strip_suffix(&question) {
                return Ok((String::from_utf8(line.to_vec()).map_err(io::Error::other)?, from));
            }
        }
    }
}
