// SPDX-License-Identifier: Apache-2.0

//! Clients of every kind that ask all the time, and none of whose requests may be lost.
//!
//! Each request carries an id that no other of the load has. The server that answers it notes the id, and
//! repeats it together with its own name; the client notes who has answered, and when nobody has. What
//! is counted at both ends is compared in the end: the [`Report`] says what was lost, on the way there
//! or back, what came twice, and who was answered by somebody who must not.
//!
//! Nothing is sent again by a client. What TCP has to send again is noted.

mod caller;
mod client;
mod datagrams;
mod journal;
mod report;
mod request;
mod server;
mod streams;
mod tcp_info;

use std::fmt;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::cleanup::{self, Lease};
use crate::topology::Host;
use client::Shared;
use server::{Ledger, Server};

pub use caller::{Caller, Kind, Servers};
pub use journal::{Event, Record};
pub use report::{Report, Row};
pub use request::RequestId;

/// How long all clients may take to get their first answers.
const FIRST_ANSWERS: Duration = Duration::from_secs(30);

/// Clients that ask, and the servers that answer them.
///
/// It ends when it is dropped, and on a signal; its clients end by themselves after some minutes.
#[derive(Debug)]
pub struct Load {
    start: Instant,
    shared: Arc<Shared>,
    clients: Vec<Client>,
    ledger: Arc<Ledger>,
    servers: Vec<Server>,
    notes: Mutex<Vec<(Duration, String)>>,
    _lease: Lease,
}

#[derive(Debug)]
struct Client {
    kind: Kind,
    from: String,
    target: SocketAddr,
    thread: JoinHandle<Record>,
}

impl Load {
    /// Starts servers at `port` of hosts, and clients of whom the first has the number 0; returns when
    /// each of these has had an answer.
    pub fn start(servers: &[&Host], port: u16, callers: &[Caller<'_>]) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let to_stop = Arc::clone(&shared);
        let ((), lease) = cleanup::acquire("the load", || {
            let stop = move || {
                to_stop.stopping.store(true, Ordering::Relaxed);
                Ok(())
            };
            Ok(((), stop))
        })?;
        let mut load = Self {
            start: Instant::now(),
            shared,
            clients: Vec::new(),
            ledger: Arc::default(),
            servers: Vec::new(),
            notes: Mutex::default(),
            _lease: lease,
        };
        for host in servers {
            load.servers.push(Server::start(host, port, &load.ledger)?);
        }
        for (number, caller) in (0..).zip(callers) {
            let thread = client::spawn(caller, number, load.start, &load.shared)?;
            let (kind, target, from) = (caller.kind, caller.target, caller.host.name().to_owned());
            load.clients.push(Client { kind, from, target, thread });
        }
        load.wait_for_first_answers()
    }

    fn wait_for_first_answers(self) -> Result<Self> {
        while self.shared.answered.load(Ordering::Relaxed) < self.clients.len() {
            if self.start.elapsed() > FIRST_ANSWERS {
                bail!("not all clients are answered within {FIRST_ANSWERS:?}: {}", self.stop()?);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.note("every client has had an answer");
        Ok(self)
    }

    /// Notes what happens now, for whoever reads the report.
    pub fn note(&self, what: impl fmt::Display) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push((self.start.elapsed(), what.to_string()));
    }

    /// Stops, and says what has become of all requests. Those that are on their way are waited for.
    pub fn stop(mut self) -> Result<Report> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let mut rows = Vec::new();
        for Client { kind, from, target, thread } in mem::take(&mut self.clients) {
            let record = thread.join().ok().context("a client has panicked")?;
            rows.push(Row { kind, from, target, record, seen: 0 });
        }
        let lasted = self.start.elapsed();
        self.servers.clear();
        let notes = mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Report::new(rows, &self.ledger.read(), notes, lasted))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // Whoever has panicked has said so.
            drop(client.thread.join());
        }
    }
}
