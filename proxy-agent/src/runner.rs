// SPDX-License-Identifier: Apache-2.0
//! The task that carries changes from a source to the tables.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

pub use self::{
    found::Found,
    health::{FamilyProgress, NodeState, Progress},
    status::Status,
};
use self::{
    health::Health,
    tables::Tables,
    told::{Ports, Told},
};
use crate::{
    chain::chain,
    health_check::HealthChecks,
    model::{Kind, Store},
    plan::Options,
    walks::{Walk, Walks},
    watch::Event,
};

mod families;
mod found;
mod health;
mod health_checks;
mod lacking;
mod measured;
mod node_ports;
mod remote;
mod rest;
mod side_by_side;
mod status;
mod tables;
mod told;
mod unserved;
mod unusable;

/// The kinds that must be known in full before anything is written: with a part of them, what is
/// there would look as if it had gone.
const NEEDED: [Kind; 3] = [Kind::Service, Kind::EndpointSlice, Kind::Node];
/// How many events are taken before they are acted on, if as many are queued.
const BATCH: usize = 4096;

/// Takes the events of a source, and keeps the tables of each family as they say.
pub struct Runner {
    store: Store,
    options: Options,
    /// What the tables of each family have.
    families: Vec<Box<dyn Tables>>,
    walks: Walks,
    unsynced: BTreeSet<Kind>,
    last_error: Option<String>,
    status: watch::Sender<Status>,
    node_addresses: watch::Sender<Option<BTreeSet<IpAddr>>>,
    left_sockets: watch::Sender<()>,
    /// The addresses of the host, if anybody tells, once they are known.
    local_addresses: Option<watch::Receiver<Option<BTreeSet<IpAddr>>>>,
    /// At which addresses node ports are served, once that is known.
    node_port_addresses: Option<BTreeSet<IpAddr>>,
    health_check_addresses: watch::Sender<BTreeSet<IpAddr>>,
    pod_cidrs: watch::Sender<Option<Vec<IpNet>>>,
    health_checks: watch::Sender<HealthChecks>,
    health: Health,
    /// Ports of which it has been told that sockets are not served them, if that is told.
    unserved: Option<Told<Ports>>,
    shared_ports: Option<node_ports::Shared>,
    unusable: Option<unusable::Telling>,
    rest: rest::Rest,
    measured: Option<measured::Measured>,
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
            walks: Walks::default(),
            unsynced: NEEDED.into(),
            last_error: None,
            status: watch::Sender::default(),
            node_addresses: watch::Sender::default(),
            left_sockets: watch::Sender::default(),
            local_addresses: None,
            node_port_addresses: None,
            health_check_addresses: watch::Sender::default(),
            pod_cidrs: watch::Sender::default(),
            health_checks: watch::Sender::default(),
            health: Health::default(),
            unserved: None,
            shared_ports: None,
            unusable: None,
            rest: rest::Rest::default(),
            measured: None,
            started: Instant::now(),
        }
    }

    /// Serves node ports at addresses of the host, which are these once they are known, where the Node's own are
    /// not meant.
    #[must_use]
    pub fn with_local_addresses(
        mut self,
        addresses: watch::Receiver<Option<BTreeSet<IpAddr>>>,
    ) -> Self {
        self.local_addresses = Some(addresses);
        self
    }

    /// Counts walks through flows that began from this time on, once it is known: before, the tables did not have all flows.
    #[must_use]
    pub fn with_all_flows_since(mut self, since: watch::Receiver<Option<Instant>>) -> Self {
        self.walks.hear_since(since);
        self
    }

    /// How things stand, now and whenever that changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The addresses of the own Node, once all sources have said what there is, and whenever they change.
    #[must_use]
    pub fn node_addresses(&self) -> watch::Receiver<Option<BTreeSet<IpAddr>>> {
        self.node_addresses.subscribe()
    }

    /// The addresses at which health checks are answered, now and whenever they change; unspecified
    /// ones stand for all of their family.
    #[must_use]
    pub fn health_check_addresses(&self) -> watch::Receiver<BTreeSet<IpAddr>> {
        self.health_check_addresses.subscribe()
    }

    /// The ranges that the own Node's pods have their addresses from, once it is known which, and whenever they
    /// change.
    #[must_use]
    pub fn pod_cidrs(&self) -> watch::Receiver<Option<Vec<IpNet>>> {
        self.pod_cidrs.subscribe()
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
            // What was taken over is due, but not before all is known.
            let wake = wake.filter(|_| self.unsynced.is_empty()).map(|wake| self.started + wake);
            let wake = wake.into_iter().chain(self.health.next()).chain(self.rest.next()).min();
            tokio::select! {
                count = events.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|event| self.take(event));
                    self.tell_queued();
                }
                () = sleep_until(wake.unwrap_or(self.started)), if wake.is_some() => {}
                () = changed(&mut self.local_addresses) => {}
                Walk { table, began, referred } = self.walks.next() => {
                    let began = began.saturating_duration_since(self.started);
                    self.families[table].walked(began, &referred);
                }
            }
            if self.unsynced.is_empty() {
                self.reconcile();
            }
            self.report();
            self.rest_when_due();
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Apply(object) => self.apply(object),
            Event::Delete(key) => self.delete(&key),
            Event::Synced(kind) => {
                self.tell_read(kind);
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
        if !dirty.is_empty() {
            self.note_work();
        }
        self.rest.note(dirty.len());
        let service_cidrs = self.store.take_service_cidrs();
        let node_ports = self.take_node_port_addresses();
        self.tell_unserved(&dirty);
        self.tell_shared_ports(&dirty);
        self.tell_unusable(&dirty);
        self.count_endpoints(&dirty);
        let (outcomes, took) = self.flush(&dirty);
        let (started, mut lacks, mut failed) = (self.started, Vec::new(), Vec::new());
        for (family, outcome) in self.families.iter_mut().zip(outcomes) {
            if outcome.left_sockets {
                self.left_sockets.send_replace(());
            }
            lacks.push((family.name(), outcome.lacks));
            for problem in outcome.problems {
                let (family, service) = (family.name(), problem.service);
                let error = chain(&problem.error);
                warn!(family, %service, error, "cannot apply a Service, will try again");
                failed.push(family);
                self.last_error = Some(format!("{service} ({family}): {error}"));
            }
            if let Some(addresses) = &node_ports {
                family.set_node_addresses(addresses);
            }
            if let Some(cidrs) = &service_cidrs {
                family.set_service_cidrs(cidrs);
            }
            for error in family.flush_beside(started.elapsed()) {
                let (family, error) = (family.name(), chain(&*error));
                warn!(family, error, "cannot write what belongs to no Service, will try again");
                failed.push(family);
                self.last_error = Some(format!("{family}: {error}"));
            }
        }
        for (family, lacks) in lacks {
            self.tell_lacking(family, lacks);
        }
        self.tell_synced(&dirty, &took);
        for family in failed {
            self.tell_failed(family);
        }
    }
}

/// Waits until a value changes. One that nobody changes any more stays as it is.
async fn changed<T>(watched: &mut Option<watch::Receiver<T>>) {
    let told = match watched {
        Some(watched) => watched.changed().await.is_ok(),
        None => false,
    };
    if !told {
        std::future::pending::<()>().await;
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

#[cfg(test)]
mod tests;
