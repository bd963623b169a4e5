// SPDX-License-Identifier: Apache-2.0
//! The task that carries changes from a source to the tables.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use proxy_common::Family;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};
use unserved::Unserved;

use crate::{
    chain::chain,
    dataplane::Dataplane,
    model::{Kind, ServiceName, Store},
    plan::{Options, categorize::NodeContext, plan},
    reconcile::{Conflict, FamilyReconciler, Outcome, Rows, ServiceCidrError, ServiceCidrs},
    watch::Event,
};

mod unserved;

/// The kinds that must be known in full before anything is written: with a part of them, what is
/// there would look as if it had gone.
const NEEDED: [Kind; 3] = [Kind::Service, Kind::EndpointSlice, Kind::Node];
/// How many events are taken before they are acted on, if as many are queued.
const BATCH: usize = 4096;

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether all sources have said what there is.
    pub synced: bool,
    /// How many Services there are, those without an address in any family of the node included.
    pub services: usize,
    /// How many Services have something to do, now or later, counted in each family.
    pub pending: usize,
    /// How many of them, and of the families' Service CIDRs, have failed at the last attempt.
    pub failing: usize,
    /// What has failed last, as long as anything fails.
    pub last_error: Option<String>,
}

/// Takes the events of a source, and keeps the tables of each family as they say.
pub struct Runner {
    store: Store,
    options: Options,
    families: Vec<Box<dyn Tables>>,
    unsynced: BTreeSet<Kind>,
    last_error: Option<String>,
    status: watch::Sender<Status>,
    node_addresses: watch::Sender<BTreeSet<IpAddr>>,
    left_sockets: watch::Sender<()>,
    unserved: Option<Unserved>,
    started: Instant,
}

impl Runner {
    /// A runner of the node with this name, which serves no family yet.
    #[must_use]
    pub fn new(node_name: &str, options: Options) -> Self {
        Self {
            store: Store::new(node_name),
            options,
            families: Vec::new(),
            unsynced: NEEDED.into(),
            last_error: None,
            status: watch::Sender::default(),
            node_addresses: watch::Sender::default(),
            left_sockets: watch::Sender::default(),
            unserved: None,
            started: Instant::now(),
        }
    }

    /// Serves a family with this dataplane, whose tables are empty.
    #[must_use]
    pub fn with_family<F, D>(mut self, dataplane: D) -> Self
    where
        F: Family<Addr: Send> + Send,
        D: Dataplane<F> + Send + 'static,
    {
        self.families.push(Box::new(Reconciled {
            reconciler: FamilyReconciler::<F>::new(Rows::CAPACITY),
            service_cidrs: ServiceCidrs::default(),
            dataplane,
        }));
        self
    }

    /// How things stand, now and whenever that changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The addresses of the own Node, now and whenever they change.
    #[must_use]
    pub fn node_addresses(&self) -> watch::Receiver<BTreeSet<IpAddr>> {
        self.node_addresses.subscribe()
    }

    /// Changes whenever backends have stopped serving that UDP sockets may be connected to.
    #[must_use]
    pub fn left_sockets(&self) -> watch::Receiver<()> {
        self.left_sockets.subscribe()
    }

    /// Runs until the source has ended. What is in the tables then stays there.
    ///
    /// Changes are acted on at once; those that have queued up meanwhile, together.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut batch = Vec::new();
        loop {
            let wake = self.families.iter().filter_map(|family| family.next()).min();
            let wake = wake.map(|wake| self.started + wake);
            tokio::select! {
                count = events.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    for event in batch.drain(..) {
                        self.take(event);
                    }
                }
                () = sleep_until(wake.unwrap_or(self.started)), if wake.is_some() => {}
            }
            if self.unsynced.is_empty() {
                self.reconcile();
            }
            self.report();
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Apply(object) => self.store.apply(object),
            Event::Delete(key) => self.store.delete(&key),
            Event::Synced(kind) => {
                if self.unsynced.remove(&kind) && self.unsynced.is_empty() {
                    info!(services = self.store.service_count(), "all sources have synced");
                    if self.store.node().is_none() {
                        let node = self.store.node_name();
                        warn!(%node, "there is no such Node: topology hints do not apply");
                    }
                }
            }
        }
    }

    fn reconcile(&mut self) {
        let dirty = self.store.take_dirty();
        let service_cidrs = self.store.take_service_cidrs();
        self.tell_unserved(&dirty);
        let started = self.started;
        let clock = || started.elapsed();
        for family in &mut self.families {
            for name in &dirty {
                family.plan(&self.store, name, &self.options);
            }
            let outcome = family.flush(&clock);
            if outcome.left_sockets {
                self.left_sockets.send_replace(());
            }
            for problem in outcome.problems {
                let (family, service) = (family.name(), problem.service);
                let error = chain(&problem.error);
                warn!(family, %service, error, "cannot apply a Service, will try again");
                self.last_error = Some(format!("{service} ({family}): {error}"));
            }
            if let Some(cidrs) = &service_cidrs {
                family.set_service_cidrs(cidrs);
            }
            if let Err(error) = family.flush_service_cidrs(clock()) {
                let (family, error) = (family.name(), chain(&error));
                warn!(family, error, "cannot follow the Service CIDRs, will try again");
                self.last_error = Some(format!("Service CIDRs ({family}): {error}"));
            }
        }
    }

    fn report(&mut self) {
        let failing = self.families.iter().map(|family| family.failing()).sum();
        if failing == 0 {
            self.last_error = None;
        }
        let status = Status {
            synced: self.unsynced.is_empty(),
            services: self.store.service_count(),
            pending: self.families.iter().map(|family| family.pending()).sum(),
            failing,
            last_error: self.last_error.clone(),
        };
        tell(&self.status, status);
        let node = self.store.node();
        let addresses = node.into_iter().flat_map(|node| &node.addresses);
        tell(&self.node_addresses, addresses.copied().collect());
    }
}

/// Tells those who wait for it, if it has changed.
fn tell<T: PartialEq>(watched: &watch::Sender<T>, value: T) {
    let _ = watched.send_if_modified(|known| {
        let changed = *known != value;
        *known = value;
        changed
    });
}

/// The tables of a family, whichever it is.
trait Tables: Send {
    fn name(&self) -> &'static str;
    fn plan(&mut self, store: &Store, name: &ServiceName, options: &Options);
    fn flush(&mut self, clock: &dyn Fn() -> Duration) -> Outcome;
    fn set_service_cidrs(&mut self, cidrs: &BTreeSet<IpNet>);
    fn flush_service_cidrs(&mut self, now: Duration) -> Result<(), ServiceCidrError>;
    fn next(&self) -> Option<Duration>;
    fn pending(&self) -> usize;
    fn failing(&self) -> usize;
}

struct Reconciled<F: Family, D> {
    reconciler: FamilyReconciler<F>,
    service_cidrs: ServiceCidrs<F>,
    dataplane: D,
}

impl<F, D> Tables for Reconciled<F, D>
where
    F: Family<Addr: Send> + Send,
    D: Dataplane<F> + Send,
{
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn plan(&mut self, store: &Store, name: &ServiceName, options: &Options) {
        let node = NodeContext {
            name: store.node_name(),
            zone: store.node().and_then(|node| node.zone.as_deref()),
            addresses: store.node().map_or(&[], |node| &node.addresses),
        };
        let planned = store.service(name).and_then(|service| {
            let slices: Vec<_> = store.slices(name).collect();
            plan(service, &slices, node, options)
        });
        self.reconciler.set(name, planned);
    }

    fn flush(&mut self, clock: &dyn Fn() -> Duration) -> Outcome {
        let outcome = self.reconciler.flush(&mut self.dataplane, clock);
        // Of several changes in one batch only the last matters.
        let conflicts = self.reconciler.take_conflicts().into_iter();
        let last: HashMap<_, _> = conflicts.map(|conflict| (conflict.key, conflict)).collect();
        for Conflict { key, winner, losers } in last.into_values() {
            let address: IpAddr = key.address.into();
            let (port, protocol) = (key.port, key.protocol);
            let losers: Vec<_> = losers.iter().map(ToString::to_string).collect();
            let losers = losers.join(" ");
            warn!(%address, %port, %protocol, %winner, losers, "several Services want a frontend");
        }
        outcome
    }

    fn set_service_cidrs(&mut self, cidrs: &BTreeSet<IpNet>) {
        self.service_cidrs.set(cidrs);
    }

    fn flush_service_cidrs(&mut self, now: Duration) -> Result<(), ServiceCidrError> {
        self.service_cidrs.flush(&mut self.dataplane, now)
    }

    fn next(&self) -> Option<Duration> {
        self.reconciler.next().into_iter().chain(self.service_cidrs.next()).min()
    }

    fn pending(&self) -> usize {
        self.reconciler.pending()
    }

    fn failing(&self) -> usize {
        self.reconciler.failing() + usize::from(self.service_cidrs.is_failing())
    }
}

#[cfg(test)]
mod tests;
