// SPDX-License-Identifier: Apache-2.0
//! The reconciler against tables that watch every write.

mod churn;
mod conflicts;
mod failures;
mod flows;
mod full;
mod order;
mod outside;
mod restarts;
mod shortfalls;
mod spec;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::Duration,
};

use proxy_common::Family;

use self::spec::{NODE_NET, Outside, Spec, State, address, endpoint, web};
use super::{FamilyReconciler, Outcome, Rows};
use crate::{
    dataplane::{
        Dataplane as _, Op,
        fake::{Fake, Faulty},
    },
    model::{ObjectName, ServiceName},
    plan::{EndpointAddress, Options, ServicePlan, categorize::NodeContext, plan},
};

/// Says whether an operation is to fail.
type Choice<F> = Box<dyn FnMut(&Op<F>) -> bool>;

/// A reconciler, its tables, a clock, and a record of what was written.
pub(super) struct Bench<F: Family> {
    pub(super) reconciler: FamilyReconciler<F>,
    pub(super) dataplane: Faulty<Fake<F>, Choice<F>>,
    pub(super) now: Rc<Cell<Duration>>,
    log: Rc<RefCell<Vec<Op<F>>>>,
    capacity: Rows,
    /// Whether somebody walks through the flows.
    is_walked: bool,
}

impl<F: Family> Bench<F> {
    pub(super) fn new() -> Self {
        Self::with(Rows::CAPACITY, |_| false)
    }

    /// Fails the operations that `fails` chooses.
    pub(super) fn with(capacity: Rows, mut fails: impl FnMut(&Op<F>) -> bool + 'static) -> Self {
        let log = Rc::new(RefCell::new(Vec::new()));
        let writer = Rc::clone(&log);
        let fails: Choice<F> = Box::new(move |op: &Op<F>| {
            let fails = fails(op);
            let says = matches!(op, Op::PutShortfall { .. } | Op::RemoveShortfall { .. });
            if !fails && !says {
                writer.borrow_mut().push(op.clone());
            }
            fails
        });
        Self {
            reconciler: FamilyReconciler::new(capacity),
            dataplane: Faulty { inner: Fake::default(), fails },
            now: Rc::new(Cell::new(Duration::from_secs(1))),
            log,
            capacity,
            is_walked: false,
        }
    }

    /// The same where somebody walks through the flows.
    fn walked(mut self) -> Self {
        self.is_walked = true;
        self.reconciler = self.reconciler.waiting_for_walks();
        self
    }

    /// Another agent takes the tables over. It knows of no Service yet.
    fn restart(&mut self) {
        let reconciler = FamilyReconciler::new(self.capacity);
        self.reconciler = if self.is_walked { reconciler.waiting_for_walks() } else { reconciler };
        let contents = self.dataplane.take_over().unwrap();
        self.reconciler.adopt(contents, self.now.get()).unwrap();
    }

    fn set(&mut self, name: &str, spec: &Spec) {
        let name = ObjectName::new("ns", name);
        self.reconciler.set(&name, Some(Self::plan(&name, spec)));
    }

    fn plan(name: &ServiceName, spec: &Spec) -> ServicePlan<F> {
        let addresses = [address::<F>(NODE_NET, 1).into()];
        let node = NodeContext { name: "me", zone: None, addresses: &addresses };
        let slice = spec.slice::<F>(name);
        let planned = plan(&spec.service::<F>(name), &[&slice], node, &Options::default());
        planned.expect("it has a cluster IP")
    }

    /// Gives the node these addresses, by net and last part.
    fn set_node(&mut self, addresses: &BTreeSet<(u16, u16)>) {
        let ips = addresses.iter().map(|(net, host)| address::<F>(*net, *host).into());
        self.reconciler.set_node_addresses(&ips.collect());
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.reconciler.set(&ServiceName::new("ns", name), None);
    }

    pub(super) fn wait(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }

    pub(super) fn flush(&mut self) -> Outcome {
        self.dataplane.inner.set_time(self.now.get());
        let now = Rc::clone(&self.now);
        let outcome = self.reconciler.flush(&mut self.dataplane, &|| now.get());
        let _ = self.reconciler.flush_node_addresses(&mut self.dataplane, now.get());
        let _ = self.reconciler.flush_leftovers(&mut self.dataplane, now.get());
        let _ = self.reconciler.flush_shortfalls(&mut self.dataplane, now.get());
        outcome
    }

    /// Goes on until nothing is pending, waiting where there is a pause. As the runner does, it begins whether or not
    /// something is: an agent that has read that there is nothing removes what another has left.
    pub(super) fn settle(&mut self) {
        let _ = self.flush();
        for _ in 0..200 {
            let Some(next) = self.reconciler.next() else {
                return;
            };
            self.now.set(self.now.get().max(next));
            let _ = self.flush();
        }
        panic!("does not settle");
    }

    /// What has been written since the last call.
    pub(super) fn written(&self) -> Vec<Op<F>> {
        self.log.take()
    }

    /// Asserts that no program could have stumbled.
    pub(super) fn assert_safe(&self) {
        assert_eq!(self.fake().violations(), [] as [&str; 0]);
    }

    /// Asserts that the tables are empty and that every row has been given back.
    pub(super) fn assert_empty(&self) {
        let fake = self.fake();
        assert_eq!(self.reconciler.in_use(), Rows::default());
        assert!(fake.frontends.is_empty() && fake.services.is_empty() && fake.names.is_empty());
        assert!(fake.source_ranges.is_empty() && fake.shortfalls.is_empty());
    }

    pub(super) const fn fake(&self) -> &Fake<F> {
        &self.dataplane.inner
    }

    /// The rows of the endpoints that serve: id, generation.
    pub(super) fn live(&self) -> BTreeSet<(EndpointAddress<F>, u32, u32)> {
        let mut live = BTreeSet::new();
        for (id, backend) in &self.fake().backends {
            if !self.fake().is_retired(*id) {
                let at = EndpointAddress { address: backend.address, port: backend.port };
                assert!(live.insert((at, id.0, backend.generation)));
            }
        }
        live
    }
}
