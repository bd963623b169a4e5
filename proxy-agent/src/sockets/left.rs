// SPDX-License-Identifier: Apache-2.0
//! UDP sockets that their backend has left: it has stopped serving, and they are connected to it.
//!
//! Nothing passes these sockets that could lead their datagrams elsewhere. So they are ended:
//! whoever waits for an answer learns of it at once and connects anew, as resolvers do. Sockets that
//! send to the frontend without being connected go elsewhere with the next datagram.

use std::{convert::Infallible, io, time::Duration};

use proxy_common::{Family, V4, V6, backend::BackendId, socket::Translation};
use tokio::{
    sync::watch,
    task::{JoinError, spawn_blocking},
    time::{Instant, sleep_until},
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
    /// Some of them cannot be entered.
    #[error(
        "cannot enter {count} network namespaces, so that UDP sockets there stay connected to \
         endpoints that have gone: that takes CAP_SYS_ADMIN, CAP_SYS_PTRACE and the host's \
         process ids"
    )]
    Enter {
        /// How many.
        count: usize,
        /// What was said of one of them.
        source: io::Error,
    },
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

    /// Ends them whenever `left` says that backends have stopped serving. What fails is logged, and
    /// tried again with growing pauses.
    ///
    /// # Errors
    ///
    /// If ending them panics.
    pub async fn run(mut self, mut left: watch::Receiver<()>) -> Result<Infallible, JoinError> {
        let mut again: Option<Instant> = None;
        let mut failures = 0;
        loop {
            tokio::select! {
                changed = left.changed() => match changed {
                    Ok(()) => again = Some(Instant::now() + AGAIN),
                    Err(_) => std::future::pending().await,
                },
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    again = None;
                }
            }
            let ended;
            (self, ended) = spawn_blocking(move || {
                let ended = self.end();
                (self, ended)
            })
            .await?;
            match ended {
                Ok(ended) => {
                    failures = 0;
                    if ended > 0 {
                        info!(
                            ended,
                            "ended UDP sockets that were connected to endpoints that have gone"
                        );
                    }
                }
                Err(error) => {
                    let pause = backoff::pause(failures);
                    failures += 1;
                    let error = chain(&error);
                    warn!(error, again_in = ?pause, "cannot end UDP sockets whose endpoints have gone");
                    again = Some(Instant::now() + pause);
                }
            }
        }
    }

    /// Ends those that are left, and says how many.
    fn end(&self) -> Result<usize, EndError> {
        let here = self.end_here()?;
        let others = match &self.others {
            Some(others) => others.each(|| self.end_here())?,
            None => 0,
        };
        Ok(here + others)
    }

    /// Ends those of this thread's network namespace.
    fn end_here(&self) -> Result<usize, EndError> {
        let mut left = self.told.read()?;
        left.retain(|_, given| !self.serves(given));
        if left.is_empty() {
            return Ok(0);
        }
        let is_left = |socket: &diag::Connected| {
            left.get(&socket.cookie()).is_some_and(|given| socket.was_given(given))
        };
        Ok(Diag::open()?.destroy_stale(is_left)?)
    }

    /// Whether the backend that a socket was given serves still.
    fn serves(&self, given: &Translation) -> bool {
        let generation = if given.family == V4::INDEX {
            self.v4.backend(given.backend).map(|backend| backend.generation)
        } else {
            self.v6.backend(given.backend).map(|backend| backend.generation)
        };
        given.backend == BackendId::NONE
            || generation.is_ok_and(|generation| generation == given.generation)
    }
}
