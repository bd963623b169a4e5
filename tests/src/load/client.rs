// SPDX-License-Identifier: Apache-2.0

//! A client: a thread in a host's namespace and control group.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::caller::{Caller, Kind};
use super::datagrams::ByDatagrams;
use super::journal::{Journal, Record};
use super::request::RequestId;
use super::streams::{ByNewConnections, ByOneConnection};

/// After which time a request is lost: longer than a machine stands still that does other things.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// After which time a client ends, whether or not it is told to.
const LIMIT: Duration = Duration::from_mins(3);
/// The UDP port of the first client, the next has the next: ports that are neither node ports nor given
/// to anybody by the kernel.
const FIRST_PORT: u16 = 20_000;

/// What all clients of a load see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Whether they are to end.
    pub(super) stopping: AtomicBool,
    /// How many have had an answer.
    pub(super) answered: AtomicUsize,
}

/// Sends requests.
pub(super) trait Asker: Send {
    /// Asks once, and returns which server has answered. What was `sent` a time ago is given up after
    /// [`PATIENCE`].
    fn ask(&mut self, id: RequestId, sent: Instant, journal: &mut Journal) -> io::Result<String>;
}

/// How long an answer to what was `sent` some time ago may still take.
pub(super) fn left(sent: Instant) -> io::Result<Duration> {
    let left = PATIENCE.checked_sub(sent.elapsed()).filter(|left| !left.is_zero());
    left.ok_or_else(|| ErrorKind::TimedOut.into())
}

/// Starts the client of this number.
pub(super) fn spawn(
    caller: &Caller<'_>,
    number: u32,
    start: Instant,
    shared: &Arc<Shared>,
) -> Result<JoinHandle<Record>> {
    let Caller { kind, host, target, ref servers } = *caller;
    let journal = Journal::new(number, kind, servers.clone(), start);
    let shared = Arc::clone(shared);
    let port = FIRST_PORT + u16::try_from(number).context("too many clients")?;
    // What a thread starts is where it is itself.
    let spawned = host.namespace().run(|| {
        let asker: Box<dyn Asker> = match kind {
            Kind::Short | Kind::Affinity => Box::new(ByNewConnections { target }),
            Kind::Long => Box::new(ByOneConnection { target, stream: None }),
            Kind::Connected => Box::new(ByDatagrams::new(target, port, true)?),
            Kind::Unconnected => Box::new(ByDatagrams::new(target, port, false)?),
        };
        let thread = thread::Builder::new().name(format!("client {number}"));
        Ok(thread.spawn(move || run(asker, journal, kind.pause(), &shared))?)
    });
    spawned.with_context(|| format!("starting a client in {}", host.name()))
}

fn run(
    mut asker: Box<dyn Asker>,
    mut journal: Journal,
    pause: Duration,
    shared: &Shared,
) -> Record {
    let begun = Instant::now();
    let mut was_answered = false;
    while !shared.stopping.load(Ordering::Relaxed) && begun.elapsed() < LIMIT {
        let (id, sent) = (journal.next(), Instant::now());
        match asker.ask(id, sent, &mut journal) {
            Ok(server) => {
                journal.answered(id, sent, &server);
                if !was_answered {
                    let _ = shared.answered.fetch_add(1, Ordering::Relaxed);
                }
                was_answered = true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                journal.lost(id, sent, &format_args!("silence for {PATIENCE:?}"));
            }
            Err(error) => journal.lost(id, sent, &error),
        }
        thread::sleep(pause.saturating_sub(sent.elapsed()));
    }
    journal.record
}
