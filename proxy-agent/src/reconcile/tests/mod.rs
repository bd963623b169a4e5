// SPDX-License-Identifier: Apache-2.0
//! The reconciler against tables that watch every write.

mod churn;
mod conflicts;
mod failures;
mod order;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    net::IpAddr,
    rc::Rc,
    time::Duration,
};

use proxy_common::{Family, Port, Protocol, family::Address as _};

use super::{FamilyReconciler, Outcome, Rows};
use crate::{
    dataplane::{
        Op,
        fake::{Fake, Faulty},
    },
    model::{
        Endpoint, EndpointPort, EndpointSlice, ObjectName, Service, ServiceName, ServicePort,
        TrafficPolicy,
    },
    plan::{EndpointAddress, Options, ServicePlan, categorize::NodeContext, plan},
};

/// What becomes of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Draining,
    Gone,
}

/// A Service and its endpoints, in few words.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// The last part of its cluster IP.
    pub(super) vip: u16,
    pub(super) created: Option<i64>,
    pub(super) policy: TrafficPolicy,
    /// Name, protocol, number.
    pub(super) ports: Vec<(&'static str, Protocol, u16)>,
    /// The last part of the address, what it is, and whether it is on this node. All listen on
    /// port 8080.
    pub(super) endpoints: Vec<(u16, State, bool)>,
}

pub(super) fn web(endpoints: &[(u16, State, bool)]) -> Spec {
    Spec {
        vip: 1,
        created: Some(0),
        policy: TrafficPolicy::Cluster,
        ports: vec![("http", Protocol::TCP, 80)],
        endpoints: endpoints.to_vec(),
    }
}

/// An address: cluster IPs are in net 96, pods in net 244.
pub(super) fn address<F: Family>(net: u16, host: u16) -> F::Addr {
    let ip: IpAddr = if F::INDEX == 0 {
        format!("10.{net}.{}.{}", host >> 8, host & 0xff).parse()
    } else {
        format!("fd00:{net}::{host:x}").parse()
    }
    .unwrap();
    F::Addr::from_ip(ip).unwrap()
}

pub(super) fn endpoint<F: Family>(host: u16) -> EndpointAddress<F> {
    EndpointAddress { address: address::<F>(244, host), port: Port::new(8080) }
}

/// Says whether an operation is to fail.
type Choice<F> = Box<dyn FnMut(&Op<F>) -> bool>;

/// A reconciler, its tables, a clock, and a record of what was written.
pub(super) struct Bench<F: Family> {
    pub(super) reconciler: FamilyReconciler<F>,
    pub(super) dataplane: Faulty<Fake<F>, Choice<F>>,
    pub(super) now: Rc<Cell<Duration>>,
    log: Rc<RefCell<Vec<Op<F>>>>,
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
            if !fails {
                writer.borrow_mut().push(op.clone());
            }
            fails
        });
        Self {
            reconciler: FamilyReconciler::new(capacity),
            dataplane: Faulty { inner: Fake::default(), fails },
            now: Rc::new(Cell::new(Duration::from_secs(1))),
            log,
        }
    }

    pub(super) fn set(&mut self, name: &str, spec: &Spec) {
        let name = ObjectName::new("ns", name);
        self.reconciler.set(&name, Some(Self::plan(&name, spec)));
    }

    pub(super) fn plan(name: &ServiceName, spec: &Spec) -> ServicePlan<F> {
        let service = Service {
            name: name.clone(),
            created: spec.created,
            cluster_ips: vec![address::<F>(96, spec.vip).into()],
            internal_traffic_policy: spec.policy,
            ports: spec.ports.iter().map(service_port).collect(),
            ..Service::default()
        };
        let slice = EndpointSlice {
            name: name.clone(),
            service: name.clone(),
            endpoints: spec.endpoints.iter().copied().map(model_endpoint::<F>).collect(),
            ports: spec.ports.iter().map(endpoint_port).collect(),
        };
        let node = NodeContext { name: "me", ..NodeContext::default() };
        plan(&service, &[&slice], node, &Options::default()).expect("it has a cluster IP")
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
        self.reconciler.flush(&mut self.dataplane, &|| now.get())
    }

    /// Goes on until nothing is pending, waiting where there is a pause.
    pub(super) fn settle(&mut self) {
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

fn service_port((name, protocol, number): &(&str, Protocol, u16)) -> ServicePort {
    ServicePort {
        name: (*name).into(),
        protocol: *protocol,
        port: Port::new(*number),
        node_port: None,
    }
}

fn endpoint_port((name, protocol, _): &(&str, Protocol, u16)) -> EndpointPort {
    EndpointPort { name: (*name).into(), protocol: *protocol, port: Port::new(8080) }
}

fn model_endpoint<F: Family>((host, state, local): (u16, State, bool)) -> Endpoint {
    Endpoint {
        address: address::<F>(244, host).into(),
        ready: state == State::Ready,
        serving: state != State::Gone,
        terminating: state == State::Draining,
        node: Some(if local { "me" } else { "you" }.into()),
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
    }
}
