// SPDX-License-Identifier: Apache-2.0

//! Changes of objects while the agent cannot see them, and what they lead to.

use std::cell::Cell;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::cluster::{PORT, web};
use proxy_tests::family::{DualAddress, IpFamily};
use proxy_tests::load::Report;
use proxy_tests::manifests::Service;
use proxy_tests::protocol::Protocol;
use proxy_tests::traffic::{Client, TcpServer, UdpServer};

use super::objects::Objects;
use super::rig::{CLIENT, NEAR, Rig, STAYING};

/// Within which time of a start, or of a change, everything must be as the objects say.
const PROMISED: Duration = Duration::from_secs(1);
/// The same on a machine that stands still in between.
pub(crate) const SOON: Duration = Duration::from_secs(15);
/// Longer than an answer takes.
const PATIENCE: Duration = Duration::from_millis(200);
/// Enough that one of two endpoints is not missed, but once in thirty thousand times.
const ENOUGH: usize = 16;
/// The cluster IPs of the Services that come, go, and lose an endpoint.
const COMES: DualAddress = DualAddress::cluster_ip(20);
pub(crate) const GOES: DualAddress = DualAddress::cluster_ip(21);
const SHRINKS: DualAddress = DualAddress::cluster_ip(22);

/// Services beside those of the load, and servers of their own.
pub(crate) struct Changes<'a> {
    rig: &'a Rig,
    objects: Objects<'a>,
    /// The longest time until what is promised was seen.
    longest: Cell<Duration>,
    _servers: Vec<(TcpServer, UdpServer)>,
}

/// What the objects say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Before,
    After,
}

impl<'a> Changes<'a> {
    /// Writes what is before.
    pub(crate) fn new(rig: &'a Rig, objects: Objects<'a>) -> Result<Self> {
        let servers = rig.cluster.servers(&[NEAR, STAYING[0]])?;
        let changes = Self { rig, objects, longest: Cell::default(), _servers: servers };
        objects.apply(&changes.goes())?;
        objects.apply(&changes.shrinks(&[NEAR, STAYING[0]]))?;
        Ok(changes)
    }

    /// A Service comes, one goes, and one loses an endpoint.
    pub(crate) fn make(&self) -> Result<()> {
        self.objects.apply(&self.comes())?;
        self.objects.remove(&self.goes())?;
        self.objects.apply(&self.shrinks(&[NEAR]))
    }

    /// The changes, backwards.
    pub(crate) fn undo(&self) -> Result<()> {
        self.objects.remove(&self.comes())?;
        self.objects.apply(&self.goes())?;
        self.objects.apply(&self.shrinks(&[NEAR, STAYING[0]]))
    }

    /// Clients must see a state, in both families and over both protocols, within [`SOON`]; and the time it takes is
    /// one of those that [must have been short](Self::ensure_prompt).
    pub(crate) fn are_seen_soon(&self, state: State) -> Result<()> {
        let took = self.are_seen(state, SOON)?;
        self.longest.set(took.max(self.longest.get()));
        Ok(())
    }

    /// Clients must see a state within some time, in both families and over both protocols. Says when those began
    /// to ask who saw it.
    pub(crate) fn are_seen(&self, state: State, within: Duration) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let elapsed = start.elapsed();
            match self.is_seen(state) {
                Err(error) if elapsed >= within => {
                    return Err(error)
                        .with_context(|| format!("{state:?} is not seen within {within:?}"));
                }
                Err(_) => thread::sleep(Duration::from_millis(10)),
                Ok(()) => return Ok(elapsed),
            }
        }
    }

    /// What was to be seen soon was seen within [`PROMISED`], but for the time that the machine stood still: an answer
    /// to the load, which the agent has no part in, took no longer.
    pub(crate) fn ensure_prompt(&self, load: &Report) -> Result<()> {
        let longest = self.longest.get();
        eprintln!("changes were seen within {longest:.1?}");
        ensure!(longest < PROMISED + load.longest(), "changes took {longest:?}:\n{load}");
        Ok(())
    }

    fn is_seen(&self, state: State) -> Result<()> {
        let client = Client::new(self.rig.pod(CLIENT)).patience(PATIENCE);
        for family in IpFamily::ALL {
            let at = |vip: DualAddress| SocketAddr::new(vip.of(family), PORT);
            for protocol in Protocol::OF_SOCKETS {
                let (there, gone) = match state {
                    State::Before => (GOES, COMES),
                    State::After => (COMES, GOES),
                };
                let answer = client.ask(protocol, at(there))?;
                ensure!(answer.server == NEAR, "{protocol}: {answer:?}");
                let answer = client.ask(protocol, at(gone));
                ensure!(answer.is_err(), "{protocol}: what is gone answers: {answer:?}");
                let shares = client.ask_often(protocol, at(SHRINKS), ENOUGH);
                let expected = if state == State::Before { 2 } else { 1 };
                let good = shares.failures.is_empty() && shares.answers.contains_key(NEAR);
                ensure!(good && shares.answers.len() == expected, "{protocol}: {shares}");
            }
        }
        Ok(())
    }

    fn comes(&self) -> Service {
        web(COMES, "comes").pods([self.rig.pod(NEAR)])
    }

    fn goes(&self) -> Service {
        web(GOES, "goes").pods([self.rig.pod(NEAR)])
    }

    fn shrinks(&self, pods: &[&str]) -> Service {
        web(SHRINKS, "shrinks").pods(pods.iter().map(|pod| self.rig.pod(pod)))
    }
}
