// SPDX-License-Identifier: Apache-2.0
//! Keeps listening where it is wanted.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    future::pending,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::debug;

use super::{
    HealthChecks,
    failing::{self, Failing, ListenError, Place},
    listener::{self, Serving},
};
use crate::{
    events::Events,
    http_server::{Connections, Limits},
};

/// Where to try to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// Wherever it is wanted.
    All,
    /// Where it has failed long enough ago.
    Due,
}

/// Answers health checks.
#[derive(Debug)]
pub struct Server {
    serving: Serving,
    addresses: watch::Receiver<BTreeSet<IpAddr>>,
    node: String,
    events: Events,
    /// Each with the task that accepts connections, and ends when this is dropped.
    open: BTreeMap<Place, JoinSet<()>>,
    failing: BTreeMap<Place, Failing>,
}

impl Server {
    /// A server on the node with this name, that answers for these Services at these addresses.
    /// `healthy` says whether the proxy itself is well.
    ///
    /// An unspecified address stands for all of its family. With it, no other address of that
    /// family can be listened at.
    #[must_use]
    pub fn new(
        checks: watch::Receiver<HealthChecks>,
        healthy: watch::Receiver<bool>,
        addresses: watch::Receiver<BTreeSet<IpAddr>>,
        node: &str,
        events: Events,
    ) -> Self {
        let limits = Limits::default();
        let connections = Connections::new(limits.connections);
        Self {
            serving: Serving { checks, healthy, connections, limits },
            addresses,
            node: node.to_owned(),
            events,
            open: BTreeMap::new(),
            failing: BTreeMap::new(),
        }
    }

    /// The same with other limits.
    #[cfg(test)]
    pub(super) fn with_limits(mut self, limits: Limits) -> Self {
        self.serving.connections = Connections::new(limits.connections);
        self.serving.limits = limits;
        self
    }

    /// Answers until nobody is left who could say what for. Where it is not possible to listen, an
    /// Event tells the Service, and it is tried again with growing pauses and at the next change.
    pub async fn run(mut self) {
        let mut next = Some(Attempt::All);
        while let Some(attempt) = next {
            let wanted = self.wanted();
            // First, since what is closed may be in the way of what is opened.
            self.close(&wanted).await;
            self.open(wanted, attempt);
            next = self.wait().await;
        }
    }

    /// Where to listen, and the UIDs of the Services.
    fn wanted(&mut self) -> BTreeMap<Place, Option<Arc<str>>> {
        let addresses = self.addresses.borrow_and_update();
        let mut wanted = BTreeMap::new();
        for (service, check) in &*self.serving.checks.borrow_and_update() {
            if check.port == 0 {
                continue;
            }
            let of_service =
                addresses.iter().filter(|ip| check.local_endpoints.in_family_of(**ip).is_some());
            for ip in of_service {
                let address = SocketAddr::new(*ip, check.port);
                let place = Place { service: service.clone(), address };
                let _ = wanted.insert(place, check.uid.clone());
            }
        }
        wanted
    }

    async fn close(&mut self, wanted: &BTreeMap<Place, Option<Arc<str>>>) {
        self.failing.retain(|place, _| wanted.contains_key(place));
        let unwanted = self.open.extract_if(.., |place, _| !wanted.contains_key(place));
        for (Place { service, address }, mut accepting) in unwanted {
            accepting.shutdown().await;
            debug!(%service, %address, "health checks are answered no more");
        }
    }

    fn open(&mut self, wanted: BTreeMap<Place, Option<Arc<str>>>, attempt: Attempt) {
        let now = Instant::now();
        for (place, uid) in wanted {
            let Entry::Vacant(open) = self.open.entry(place.clone()) else { continue };
            let is_due = self.failing.get(&place).is_none_or(|failing| failing.retry() <= now);
            if attempt == Attempt::Due && !is_due {
                continue;
            }
            let before = self.failing.remove(&place);
            let Place { service, address } = &place;
            match listener::listen(*address) {
                Ok(listener) => {
                    debug!(%service, %address, "health checks are answered");
                    let mut accepting = JoinSet::new();
                    let _ = accepting.spawn(listener::serve(listener, place, self.serving.clone()));
                    let _ = open.insert(accepting);
                }
                Err(source) => {
                    let error = ListenError { address: *address, source };
                    let event = failing::event(&self.node, service, uid, &error);
                    let (failing, news) = Failing::after(before, event);
                    let _ = self.failing.insert(place, failing);
                    if let Some(event) = news {
                        self.events.tell(event);
                    }
                }
            }
        }
    }

    /// Waits for a change, or until something is to be tried again; nothing if nobody is left who
    /// could change anything.
    async fn wait(&mut self) -> Option<Attempt> {
        let retry = self.failing.values().map(Failing::retry).min();
        let addresses = &mut self.addresses;
        let moved = async {
            if addresses.changed().await.is_err() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            changed = self.serving.checks.changed() => changed.ok().map(|()| Attempt::All),
            () = moved => Some(Attempt::All),
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                Some(Attempt::Due)
            }
        }
    }
}
