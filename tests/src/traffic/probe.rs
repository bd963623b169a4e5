// SPDX-License-Identifier: Apache-2.0

//! HTTP probes, as of load balancers and tools, and what is answered to them, to the byte.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use super::Client;

/// What was answered.
#[derive(Clone, Debug)]
pub struct Probed {
    /// The status.
    pub status: u16,
    /// The lines before the body, without the first one.
    pub headers: Vec<String>,
    /// The body.
    pub body: String,
}

impl Probed {
    /// What a header says, by its name as the server writes it.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Client<'_> {
    /// Asks for what is at a path, on a connection of its own.
    pub fn probe(&self, at: SocketAddr, path: &str) -> Result<Probed> {
        let mut stream = self.connect(at)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        let _: usize = stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no end of headers")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?;
        let headers = lines.map(str::to_owned).collect();
        Ok(Probed { status: status.parse()?, headers, body: body.to_owned() })
    }
}
