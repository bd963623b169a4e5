// SPDX-License-Identifier: Apache-2.0

//! A connection that stays open and misses nothing.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Deref;
use std::time::{Duration, Instant};

use super::greeted::Greeted;

/// A connection to a [`TcpServer`](super::TcpServer) on which messages are
/// counted: each must come back, once and in order.
#[derive(Debug)]
pub struct CountedStream {
    greeted: Greeted,
    next: u64,
}

impl CountedStream {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { greeted: Greeted::new(stream)?, next: 0 })
    }

    /// How many messages have come back.
    #[must_use]
    pub const fn exchanged(&self) -> u64 {
        self.next
    }

    /// Sends the next message, reads it back, and returns how long it took.
    pub fn exchange(&mut self) -> io::Result<Duration> {
        let start = Instant::now();
        self.greeted.stream.write_all(&self.next.to_be_bytes())?;
        let mut echo = [0; 8];
        self.greeted.stream.read_exact(&mut echo)?;
        let got = u64::from_be_bytes(echo);
        if got != self.next {
            let message = format!("message {got} came where {} was due", self.next);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.next += 1;
        Ok(start.elapsed())
    }
}

impl Deref for CountedStream {
    type Target = Greeted;

    fn deref(&self) -> &Greeted {
        &self.greeted
    }
}
