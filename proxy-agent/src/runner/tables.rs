// SPDX-License-Identifier: Apache-2.0
//! The tables of a family behind the runner.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use proxy_common::Family;
use tracing::warn;

use super::rest::MANY;
use crate::{
    dataplane::Dataplane,
    health_check::LocalEndpoints,
    model::{ServiceName, Store},
    plan::{Options, categorize::NodeContext, plan, ready_here},
    reconcile::{
        Conflict, FamilyReconciler, Outcome, ReconcileError, Rows, ServiceCidrError, ServiceCidrs,
    },
};

/// The tables of a family, whichever it is.
pub(super) trait Tables: Send {
    fn name(&self) -> &'static str;
    fn plan(&mut self, store: &Store, name: &ServiceName, options: &Options);
    /// Adds how many endpoints a Service has on this node, if it has this family.
    fn count(&self, store: &Store, name: &ServiceName, counts: LocalEndpoints) -> LocalEndpoints;
    /// Carries out what is due, after so many Services have been planned.
    fn flush(&mut self, planned: usize, clock: &dyn Fn() -> Duration) -> Outcome;
    fn set_node_addresses(&mut self, addresses: &BTreeSet<IpAddr>);
    fn flush_node_addresses(&mut self, now: Duration) -> Result<(), ReconcileError>;
    fn set_service_cidrs(&mut self, cidrs: &BTreeSet<IpNet>);
    fn flush_service_cidrs(&mut self, now: Duration) -> Result<(), ServiceCidrError>;
    fn next(&self) -> Option<Duration>;
    fn pending(&self) -> usize;
    fn failing(&self) -> usize;
    fn is_stuck(&self) -> bool;
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
}

impl<F: Family, D> Reconciled<F, D> {
    /// Tables that are empty.
    pub(super) fn new(dataplane: D) -> Self {
        Self {
            reconciler: FamilyReconciler::new(Rows::CAPACITY),
            service_cidrs: ServiceCidrs::default(),
            dataplane,
        }
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

    fn plan(&mut self, store: &Store, name: &ServiceName, options: &Options) {
        let node = context(store);
        let planned = store.service(name).and_then(|service| {
            let slices: Vec<_> = store.slices(name).collect();
            plan(service, &slices, node, options)
        });
        self.reconciler.set(name, planned);
    }

    fn count(&self, store: &Store, name: &ServiceName, counts: LocalEndpoints) -> LocalEndpoints {
        let slices: Vec<_> = store.slices(name).collect();
        let ready = |service| ready_here::<F>(service, &slices, context(store));
        store.service(name).and_then(ready).map_or(counts, |count| counts.with::<F>(count))
    }

    fn flush(&mut self, planned: usize, clock: &dyn Fn() -> Duration) -> Outcome {
        let outcome = self.reconciler.flush(&mut self.dataplane, clock);
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

    fn set_node_addresses(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.reconciler.set_node_addresses(addresses);
    }

    fn flush_node_addresses(&mut self, now: Duration) -> Result<(), ReconcileError> {
        self.reconciler.flush_node_addresses(&mut self.dataplane, now)
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

    fn is_stuck(&self) -> bool {
        self.reconciler.is_stuck() || self.service_cidrs.is_failing()
    }

    fn rest(&mut self) {
        self.dataplane.rest();
    }
}
