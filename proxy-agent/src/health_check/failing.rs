// SPDX-License-Identifier: Apache-2.0
//! Where it is not possible to listen.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::time::Instant;

use crate::{
    backoff,
    chain::chain,
    events::{Event, EventType, Regarding},
    model::ServiceName,
};

/// A Service, and where its health checks are answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) service: ServiceName,
    pub(super) address: SocketAddr,
}

/// Why it is not possible to listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}")]
pub(super) struct ListenError {
    pub(super) address: SocketAddr,
    pub(super) source: io::Error,
}

/// The failures in a row at one place.
#[derive(Debug)]
pub(super) struct Failing {
    /// The Event about the last of them.
    told: Event,
    failures: u32,
    retry: Instant,
}

impl Failing {
    /// The failures after one more, and the Event about it, unless the one before was the same.
    pub(super) fn after(before: Option<Self>, event: Event) -> (Self, Option<Event>) {
        let failures = before.as_ref().map_or(0, |before| before.failures);
        let retry = Instant::now() + backoff::pause(failures);
        let news = before.is_none_or(|before| before.told != event).then(|| event.clone());
        (Self { told: event, failures: failures.saturating_add(1), retry }, news)
    }

    /// When to try again, at the latest.
    pub(super) const fn retry(&self) -> Instant {
        self.retry
    }
}

/// The Event about a failure, in the words of kube-proxy.
pub(super) fn event(
    node: &str,
    service: &ServiceName,
    uid: Option<Arc<str>>,
    error: &ListenError,
) -> Event {
    let (name, port) = (service.to_string(), error.address.port());
    let error = chain(error);
    Event {
        regarding: Regarding { service: service.clone(), uid },
        type_: EventType::Warning,
        reason: "FailedToStartServiceHealthcheck",
        action: "Listen",
        note: format!("node {node} failed to start healthcheck {name:?} on port {port}: {error}"),
    }
}
