// SPDX-License-Identifier: Apache-2.0
//! Rules that come while the fast path is taken: a node that boots may start the agent before a network
//! plugin has written any.

use std::{future, io, thread, time::Duration};

use rtnetlink::sys::{Socket, protocols::NETLINK_NETFILTER};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use tokio::sync::oneshot;
use tracing::warn;

use super::{
    error::{Error, FoundList, ReadError},
    found::Found,
    look,
};
use crate::{chain::chain, cli::FastPath};

/// How long nobody looks if the kernel tells of nothing: it does not of legacy iptables.
const PERIOD: Duration = Duration::from_secs(10);

/// How long nobody looks after a change, since they seldom come alone.
const PAUSE: Duration = Duration::from_millis(500);

/// How often in a row it may not be known what rules there are.
const FAILURES: usize = 3;

/// `NFNLGRP_NFTABLES`.
const CHANGES: u32 = 7;

/// Looks out for rules that the fast path must not go past, if it has not been forced.
#[derive(Debug)]
pub struct Watch(Option<oneshot::Receiver<Error>>);

impl Watch {
    /// Begins, in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// If there is no thread for it.
    pub fn begin(choice: FastPath) -> io::Result<Self> {
        if choice != FastPath::On {
            return Ok(Self(None));
        }
        let (sender, forbidden) = oneshot::channel();
        let watch = move || {
            let mut failures = 0;
            while !sender.is_closed() {
                // Before looking, so that no change falls in between.
                let changes = changes();
                if let Some(error) = judge(look(), &mut failures) {
                    // The agent waits for it, unless it is ending.
                    let _ = sender.send(error);
                    return;
                }
                wait(changes);
            }
        };
        let _ = thread::Builder::new().name("fast-path".to_owned()).spawn(watch)?;
        Ok(Self(Some(forbidden)))
    }

    /// Why the fast path must not be taken any more, once that is so.
    pub async fn forbidden(&mut self) -> Error {
        match &mut self.0 {
            Some(forbidden) => forbidden.await.unwrap_or(Error::Unwatched),
            None => future::pending().await,
        }
    }
}

/// What to end with, after a look.
fn judge(found: Result<Vec<Found>, ReadError>, failures: &mut usize) -> Option<Error> {
    match found {
        Ok(found) if found.is_empty() => {
            *failures = 0;
            None
        }
        Ok(found) => Some(Error::Found(FoundList(found))),
        Err(error) => {
            *failures += 1;
            if *failures >= FAILURES {
                return Some(Error::Unknown(error));
            }
            warn!(
                error = chain(&error),
                "cannot tell whether there are rules for what is forwarded"
            );
            None
        }
    }
}

/// A socket that gets the changes of nftables; none if the kernel has no such part.
fn changes() -> io::Result<Socket> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PERIOD))?;
    socket.add_membership(CHANGES)?;
    Ok(socket)
}

/// Waits for a change, at most for [`PERIOD`].
fn wait(changes: io::Result<Socket>) {
    match changes.and_then(|socket| socket.recv(&mut Vec::with_capacity(1), 0)) {
        // It has told of something, or of so much that it was lost.
        Ok(_) => thread::sleep(PAUSE),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => thread::sleep(PAUSE),
        Err(_) => thread::sleep(PERIOD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_ends_it_and_what_cannot_be_read_for_long() {
        let unreadable = || Err(ReadError::Restless);
        let rule = || vec![Found::Ipsec { direction: "out", policies: 1 }];
        let mut failures = 0;
        assert!(judge(Ok(Vec::new()), &mut failures).is_none());
        assert!(matches!(judge(Ok(rule()), &mut failures), Some(Error::Found(_))));
        for _ in 1..FAILURES {
            assert!(judge(unreadable(), &mut failures).is_none());
        }
        // One that succeeds begins anew.
        assert!(judge(Ok(Vec::new()), &mut failures).is_none());
        for _ in 1..FAILURES {
            assert!(judge(unreadable(), &mut failures).is_none());
        }
        assert!(matches!(judge(unreadable(), &mut failures), Some(Error::Unknown(_))));
    }
}
