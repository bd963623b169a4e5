// SPDX-License-Identifier: Apache-2.0
//! UDP sockets that their backend has left: it has stopped serving, and they are connected to it.
//!
//! Nothing passes these sockets that could lead their datagrams elsewhere. So they are ended:
//! whoever waits for an answer learns of it at once and connects anew, as resolvers do. Sockets that
//! send to the frontend without being connected go elsewhere with the next datagram.

use std::{convert::Infallible, time::Duration};

use proxy_common::{Family, V4, V6, socket::Translation};
use tokio::{
    sync::watch,
    task::{JoinError, spawn_blocking},
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};

use super::{diag, diag::Diag, netns::OtherNetns};
use crate::{
    backoff,
    bpf::{self, Object, Tables, ToldSockets},
    chain::chain,
};

/// When sockets are looked for again: one that was about to be connected may have been given a
/// backend that had left, and not have been there yet.
const AGAIN: Duration = Duration::from_secs(1);

/// How many times as long as it takes to look for sockets must go by until the next look.
const SHARE: u32 = 9;

/// Why sockets are not ended.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// What they were given cannot be told.
    #[error(transparent)]
    Told(#[from] bpf::Error),
    /// They cannot be listed or ended.
    #[error(transparent)]
    Diag(#[from] diag::Error),
    /// The network namespaces of the node cannot be listed.
    #[error("cannot list the network namespaces of this node")]
    List(#[source] procfs::ProcError),
}

/// The UDP sockets of the served network namespaces.
#[derive(Debug)]
pub struct LeftSockets {
    told: ToldSockets,
    v4: Tables<V4>,
    v6: Tables<V6>,
    others: Option<OtherNetns>,
}

impl LeftSockets {
    /// Those of this network namespace, and of `others` if they are served, too.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to tell what they were given.
    pub fn new(object: &mut Object, others: Option<OtherNetns>) -> Result<Self, bpf::Error> {
        let told = ToldSockets::pin(object)?;
        let (v4, v6) = (Tables::open(object.pins())?, Tables::open(object.pins())?);
        Ok(Self { told, v4, v6, others })
    }

    /// Ends them whenever `left` says that backends have stopped serving, and a second time a little
    /// later. What fails is logged, and tried again with growing pauses.
    ///
    /// # Errors
    ///
    /// If ending them panics.
    pub async fn run(mut self, mut left: watch::Receiver<()>) -> Result<Infallible, JoinError> {
        let (mut second, mut retry): (Option<Instant>, Option<Instant>) = (None, None);
        let mut failures = 0;
        loop {
            let next = second.into_iter().chain(retry).min();
            tokio::select! {
                changed = left.changed() => match changed {
                    Ok(()) => second = Some(Instant::now() + AGAIN),
                    Err(_) => std::future::pending().await,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    second = second.filter(|second| *second > Instant::now());
                }
            }
            retry = None;
            let begun = Instant::now();
            let ended;
            (self, ended) = spawn_blocking(move || {
                let ended = self.end();
                (self, ended)
            })
            .await?;
            if let Err(error) = ended {
                let error = chain(&error);
                let pause = backoff::pause(failures);
                failures += 1;
                retry = Some(Instant::now() + pause);
                warn!(error, again_in = ?pause, "cannot end UDP sockets whose endpoints have gone");
            } else {
                failures = 0;
            }
            // Where much changes, most of the time is not for this.
            sleep(begun.elapsed() * SHARE).await;
        }
    }

    /// Ends those that are left.
    fn end(&self) -> Result<(), EndError> {
        let here = self.end_here()?;
        let others = match &self.others {
            Some(others) => others.each(|| self.end_here())?,
            None => 0,
        };
        let ended = here + others;
        if ended > 0 {
            info!(ended, "ended UDP sockets that were connected to endpoints that have gone");
        }
        Ok(())
    }

    /// Ends those of this thread's network namespace.
    fn end_here(&self) -> Result<usize, EndError> {
        let mut left = self.told.read()?;
        left.retain(|_, given| has_left(&self.v4, given) || has_left(&self.v6, given));
        if left.is_empty() {
            return Ok(0);
        }
        let is_left = |socket: &diag::Connected| {
            left.get(&socket.cookie()).is_some_and(|given| socket.was_given(given))
        };
        Ok(Diag::open()?.destroy_stale(is_left)?)
    }
}

/// Whether the backend that a socket was given, if it is of this family, has stopped serving.
fn has_left<F: Family>(tables: &Tables<F>, given: &Translation) -> bool {
    given.family == F::INDEX
        && tables.backend(given.backend).is_ok_and(|now| now.generation != given.generation)
}
