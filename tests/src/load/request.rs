// SPDX-License-Identifier: Apache-2.0

//! What goes over the wire: an id to a server, and the id and the server's name back.

use std::{fmt, io};

/// How long an answer is, in bytes: the id, and a name, with zeros behind it.
pub(super) const ANSWER: usize = RequestId::LENGTH + LONGEST_NAME;

/// The longest name of a server, in bytes.
const LONGEST_NAME: usize = 24;

/// The id of a request, 64 bits: no two of a load have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    client: u32,
    number: u32,
}

impl RequestId {
    /// How long it is as a request, in bytes.
    pub(super) const LENGTH: usize = 2 * size_of::<u32>();

    /// A client's request of this number.
    #[must_use]
    pub const fn new(client: u32, number: u32) -> Self {
        Self { client, number }
    }

    /// The client's number.
    #[must_use]
    pub const fn client(self) -> u32 {
        self.client
    }

    /// Which of its client's requests it is.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }

    /// It as a request: both numbers, the client's first, in network order.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LENGTH] {
        ((self.client as u64) << u32::BITS | self.number as u64).to_be_bytes()
    }

    /// The id that a request is.
    pub(super) fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        let number_at = |at| u32::from_be_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        Self::new(number_at(0), number_at(size_of::<u32>()))
    }

    /// The answer of a server of this name, which is cut if it is too long.
    pub(super) fn answer(self, server: &str) -> [u8; ANSWER] {
        let mut answer = [0; ANSWER];
        answer[..Self::LENGTH].copy_from_slice(&self.to_bytes());
        let name = server.as_bytes();
        let length = name.len().min(LONGEST_NAME);
        answer[Self::LENGTH..][..length].copy_from_slice(&name[..length]);
        answer
    }

    /// Which request an answer is to, and the name of the server.
    pub(super) fn read_answer(bytes: &[u8]) -> io::Result<(Self, String)> {
        let strange = || io::Error::new(io::ErrorKind::InvalidData, format!("{bytes:?} came back"));
        let (id, name) = bytes.split_first_chunk().ok_or_else(strange)?;
        let name = str::from_utf8(name).map_err(|_| strange())?.trim_end_matches('\0');
        if bytes.len() != ANSWER || name.is_empty() {
            return Err(strange());
        }
        Ok((Self::from_bytes(*id), name.to_owned()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.client(), self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_the_request_and_the_server() {
        let id = RequestId::new(7, 4_000_000_000);
        assert_eq!((id.client(), id.number()), (7, 4_000_000_000));
        let (read, server) = RequestId::read_answer(&id.answer("web-1")).unwrap();
        assert_eq!((read, server.as_str()), (id, "web-1"));
        assert!(RequestId::read_answer(&id.to_bytes()).is_err());
    }
}
