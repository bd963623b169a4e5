// SPDX-License-Identifier: Apache-2.0

//! An SCTP association, as a client has it.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::ops::Deref;

use super::greeted::Greeted;

/// An association with an [`SctpServer`](super::SctpServer), by a socket of the one-to-one style (RFC
/// 6458 section 4), which is read and written as a stream's.
#[derive(Debug)]
pub struct Association(Greeted);

impl Association {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        Ok(Self(Greeted::new(stream)?))
    }

    /// Sends a message of `length` bytes, which must come back.
    pub fn exchange(&mut self, length: usize) -> io::Result<()> {
        let message: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
        self.0.stream.write_all(&message)?;
        let mut returned = vec![0; length];
        self.0.stream.read_exact(&mut returned)?;
        if returned == message {
            Ok(())
        } else {
            let what = format!("something else than these {length} bytes came back");
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        }
    }

    /// Shuts it down, and waits until the server has said that it is over.
    pub fn end(mut self) -> io::Result<()> {
        self.0.stream.shutdown(Shutdown::Write)?;
        match self.0.stream.read(&mut [0]) {
            Ok(0) => Ok(()),
            // What Linux says when there is none any more. An end by ABORT is a reset.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "more came than was due")),
            Err(error) => Err(error),
        }
    }
}

impl Deref for Association {
    type Target = Greeted;

    fn deref(&self) -> &Greeted {
        &self.0
    }
}
