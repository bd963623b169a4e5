// SPDX-License-Identifier: Apache-2.0
//! The tables of a family behind the runner.

use std::{
    collections::{BTreeSet, HashMap},
    error::Error,
    mem,
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use proxy_common::Family;
use tracing::{info, warn};

use super::{
    remote::{Remote, Remotes},
    rest::MANY,
};
use crate::{
    dataplane::{Dataplane, Referred, Rows},
    health_check::LocalEndpoints,
    model::{ServiceName, Store},
    plan::{Options, categorize::NodeContext, plan, ready_here},
    reconcile::{AdoptError, Conflict, FamilyReconciler, Missing, Outcome, ServiceCidrs},
    walks::Ask,
};

/// The tables of a family, whichever it is.
pub(super) trait Tables: Send {
    fn name(&self) -> &'static str;
    /// The Services that were taken over, and how many frontends each has. Before anything is planned.
    fn adopted(&self) -> Box<dyn Iterator<Item = (&ServiceName, usize)> + '_>;
    fn plan(&mut self, store: &Store, name: &ServiceName, options: &Options);
    /// Adds how many endpoints a Service has on this node, if it has this family.
    fn count(&self, store: &Store, name: &ServiceName, counts: LocalEndpoints) -> LocalEndpoints;
    /// Carries out what is due, after so many Services have been planned.
    fn flush(&mut self, planned: usize, clock: &dyn Fn() -> Duration) -> Outcome;
    /// Somebody has walked through the flows from this time on, which refer to these rows.
    fn walked(&mut self, began: Duration, referred: &Referred);
    fn set_node_addresses(&mut self, addresses: &BTreeSet<IpAddr>);
    fn set_service_cidrs(&mut self, cidrs: &BTreeSet<IpNet>);
    /// Carries out what is due beside Services, after these, and says what failed.
    fn flush_beside(&mut self, now: Duration) -> Vec<Box<dyn Error>>;
    fn next(&self) -> Option<Duration>;
    fn pending(&self) -> usize;
    fn failing(&self) -> usize;
    fn is_failing(&self, service: &ServiceName) -> bool;
    fn is_stuck(&self) -> bool;
    /// How many Service ports with a Local policy have endpoints, but none on this node.
    fn remote(&self) -> Remote;
    /// How many rows are taken, and how many frontends there are.
    fn in_use(&self) -> (Rows, usize);
    /// How much is wanted and is not there.
    fn missing(&self) -> Missing;
    /// Gives back what was held for much work.
    fn rest(&mut self);
}

/// What of the own Node bears on plans.
fn context(store: &Store) -> NodeContext<'_> {
    NodeContext {
        name: store.node_name(),
        zone: store.node().and_then(|node| node.zone.as_deref()),
        addresses: store.node().map_or(&[], |node| &node.addresses),
    }
}

/// The tables of one family, and what is wanted of them.
pub(super) struct Reconciled<F: Family, D> {
    reconciler: FamilyReconciler<F>,
    service_cidrs: ServiceCidrs<F>,
    dataplane: D,
    remotes: Remotes,
    /// Where a walk through the flows is asked for, if anybody walks.
    walks: Option<Ask>,
    /// Whether an earlier agent may have ended before it saw to sockets that backends had left.
    may_have_left_sockets: bool,
}

impl<F: Family, D: Dataplane<F>> Reconciled<F, D> {
    /// Takes over tables as they are at this time of the runner. Rows of Service ports rest until no flow refers to
    /// them, if walks through these can be asked for.
    pub(super) fn adopt(
        mut dataplane: D,
        walks: Option<Ask>,
        now: Duration,
    ) -> Result<Self, AdoptError> {
        let mut contents = dataplane.take_over().map_err(AdoptError::read)?;
        let mut service_cidrs = ServiceCidrs::default();
        service_cidrs.adopt(contents.service_cidrs.drain(..));
        let mut reconciler = FamilyReconciler::new(contents.rows);
        if walks.is_some() {
            reconciler = reconciler.waiting_for_walks();
        }
        let (family, ports) = (F::NAME, contents.services.len());
        reconciler.adopt(contents, now)?;
        if ports > 0 {
            info!(family, ports, "taken over what an earlier agent has left");
        }
        dataplane.rest();
        let may_have_left_sockets = ports > 0;
        let remotes = Remotes::default();
        Ok(Self { reconciler, service_cidrs, dataplane, remotes, walks, may_have_left_sockets })
    }
}

impl<F, D> Tables for Reconciled<F, D>
where
    F: Family<Addr: Send> + Send,
    D: Dataplane<F> + Send,
{
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn adopted(&self) -> Box<dyn Iterator<Item = (&ServiceName, usize)> + '_> {
        Box::new(self.reconciler.adopted())
    }

    fn plan(&mut self, store: &Store, name: &ServiceName, options: &Options) {
        let node = context(store);
        let planned = store.service(name).and_then(|service| {
            let slices: Vec<_> = store.slices(name).collect();
            plan(service, &slices, node, options)
        });
        self.remotes.note(name, planned.as_ref().map(Remote::of).unwrap_or_default());
        self.reconciler.set(name, planned);
    }

    fn count(&self, store: &Store, name: &ServiceName, counts: LocalEndpoints) -> LocalEndpoints {
        let slices: Vec<_> = store.slices(name).collect();
        let ready = |service| ready_here::<F>(service, &slices, context(store));
        store.service(name).and_then(ready).map_or(counts, |count| counts.with::<F>(count))
    }

    fn flush(&mut self, planned: usize, clock: &dyn Fn() -> Duration) -> Outcome {
        let mut outcome = self.reconciler.flush(&mut self.dataplane, clock);
        outcome.left_sockets |= mem::take(&mut self.may_have_left_sockets);
        if planned >= MANY {
            self.dataplane.rest();
        }
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

    fn walked(&mut self, began: Duration, referred: &Referred) {
        self.reconciler.walked(began, referred);
    }

    fn set_node_addresses(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.reconciler.set_node_addresses(addresses);
    }

    fn set_service_cidrs(&mut self, cidrs: &BTreeSet<IpNet>) {
        self.service_cidrs.set(cidrs);
    }

    fn flush_beside(&mut self, now: Duration) -> Vec<Box<dyn Error>> {
        let Self { reconciler, service_cidrs, dataplane, walks, .. } = self;
        if let Some(walks) = walks
            && reconciler.take_wish_to_walk(now)
        {
            walks.ask();
        }
        let mut failed: Vec<Box<dyn Error>> = Vec::new();
        failed.extend(reconciler.flush_node_addresses(dataplane, now).err().map(Box::from));
        failed.extend(reconciler.flush_leftovers(dataplane, now).err().map(Box::from));
        let guarded = service_cidrs.flush(dataplane, now);
        reconciler.tell_service_cidrs(&guarded, service_cidrs.is_failing());
        failed.extend(guarded.err().map(Box::from));
        failed.extend(reconciler.flush_shortfalls(dataplane, now).err().map(Box::from));
        failed
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

    fn is_failing(&self, service: &ServiceName) -> bool {
        self.reconciler.is_failing(service)
    }

    fn remote(&self) -> Remote {
        self.remotes.total()
    }

    fn in_use(&self) -> (Rows, usize) {
        (self.reconciler.in_use(), self.reconciler.frontends())
    }

    fn missing(&self) -> Missing {
        self.reconciler.missing()
    }

    fn is_stuck(&self) -> bool {
        self.reconciler.is_stuck() || self.service_cidrs.is_failing()
    }

    fn rest(&mut self) {
        self.dataplane.rest();
    }
}
