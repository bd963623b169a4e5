// SPDX-License-Identifier: Apache-2.0

//! Services as the agent writes them: plans, brought into the tables by the reconciler.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use proxy_agent::bpf::Tables;
use proxy_agent::model::{ServiceName, ServicePortName};
use proxy_agent::plan::{EndpointAddress, PortId, PortPlan, ServicePlan, SetPlan};
use proxy_agent::reconcile::{FamilyReconciler, Rows};
use proxy_common::Port;
use proxy_common::frontend::FrontendKind;
use proxy_common::service::{EmptySet, Policy};
use proxy_tests::protocol::Protocol;

use crate::loaded::Loaded;
use crate::rig::{Tabled, address, frontend_key, number};

/// A reconciler, and the time that it believes it is.
pub(crate) struct Cluster<F: Tabled> {
    reconciler: FamilyReconciler<F::Abi>,
    pub(crate) now: Duration,
}

/// The sets of a Service port: the one of all nodes, or that of this node; and which serves whom.
struct Sets<F: Tabled> {
    cluster: Option<SetPlan<F::Abi>>,
    local: Option<SetPlan<F::Abi>>,
    policy: Policy,
}

impl<F: Tabled> Sets<F> {
    /// That of all nodes for everybody.
    fn cluster(set: SetPlan<F::Abi>) -> Self {
        Self { cluster: Some(set), local: None, policy: Policy::default() }
    }
}

impl<F: Tabled> Cluster<F> {
    /// Tables with this much room, of which nothing has been used yet.
    pub(crate) fn new(rows: Rows) -> Self {
        Self { reconciler: FamilyReconciler::new(rows), now: Duration::ZERO }
    }

    /// The same tables as another one has left them. It wants nothing yet.
    pub(crate) fn taking_over(mut self, tables: &mut Tables<F::Abi>) -> Result<Self> {
        self.reconciler.adopt(tables.take_over()?, self.now)?;
        Ok(self)
    }

    /// Waits for walks through the flows before it gives the row of a Service port to another one.
    pub(crate) fn waiting_for_walks(mut self) -> Self {
        self.reconciler = self.reconciler.waiting_for_walks();
        self
    }

    /// Has somebody walk through the flows, as the agent does now and then: silent ones are removed.
    pub(crate) fn walk(&mut self, loaded: &mut Loaded<F>) -> Result<()> {
        let collected = loaded.collect()?;
        self.reconciler.walked(self.now, &collected.referred);
        Ok(())
    }

    /// Wants a Service with one port, of which every endpoint serves.
    pub(crate) fn put(
        &mut self,
        frontend: SocketAddr,
        protocol: Protocol,
        endpoints: &[SocketAddr],
    ) {
        let set = set_of::<F>(endpoints, EmptySet::Reject);
        self.set(frontend, protocol, endpoints, Sets::cluster(set));
    }

    /// The same with session affinity for this long.
    pub(crate) fn put_affine(
        &mut self,
        frontend: SocketAddr,
        protocol: Protocol,
        endpoints: &[SocketAddr],
        seconds: u32,
    ) {
        let set = set_of::<F>(endpoints, EmptySet::Reject);
        let policy = Policy::default().with_affinity(seconds);
        self.set(frontend, protocol, endpoints, Sets { policy, ..Sets::cluster(set) });
    }

    /// The same under a Local traffic policy, with those of the endpoints that are on this node.
    pub(crate) fn put_local(
        &mut self,
        frontend: SocketAddr,
        protocol: Protocol,
        endpoints: &[SocketAddr],
        local: &[SocketAddr],
    ) {
        let empty = if endpoints.is_empty() { EmptySet::Reject } else { EmptySet::Drop };
        let set = set_of::<F>(local, empty);
        let sets = Sets { cluster: None, local: Some(set), policy: Policy::INTERNAL_LOCAL };
        self.set(frontend, protocol, endpoints, sets);
    }

    fn set(
        &mut self,
        frontend: SocketAddr,
        protocol: Protocol,
        endpoints: &[SocketAddr],
        sets: Sets<F>,
    ) {
        let service = name(frontend, protocol);
        let protocol_number = number(protocol);
        let port = PortPlan {
            id: PortId { number: Port::new(frontend.port()), protocol: protocol_number },
            name: ServicePortName {
                service: service.clone(),
                port: "".into(),
                protocol: protocol_number,
            },
            frontends: vec![(frontend_key::<F>(frontend, protocol), FrontendKind::ClusterIp)],
            serving: sorted::<F>(endpoints),
            on_node: BTreeSet::new(),
            source_ranges: Vec::new(),
            policy: sets.policy,
            cluster: sets.cluster,
            local: sets.local,
            sockets_only: false,
        };
        let plan = ServicePlan {
            service: service.clone(),
            created: None,
            uid: "".into(),
            vips: vec![address::<F>(frontend)],
            ports: vec![port],
        };
        self.reconciler.set(&service, Some(plan));
    }

    /// Wants it no more.
    pub(crate) fn remove(&mut self, frontend: SocketAddr, protocol: Protocol) {
        self.reconciler.set(&name(frontend, protocol), None);
    }

    /// Writes what is wanted; says whether there was room for all of it.
    pub(crate) fn try_write(&mut self, tables: &mut Tables<F::Abi>) -> bool {
        let now = self.now;
        self.reconciler.flush(tables, &|| now).problems.is_empty()
            && self.reconciler.flush_leftovers(tables, now).is_ok()
    }

    /// Writes what there was no room for.
    pub(crate) fn tell(&mut self, tables: &mut Tables<F::Abi>) -> Result<()> {
        Ok(self.reconciler.flush_shortfalls(tables, self.now)?)
    }

    /// Writes what is wanted.
    pub(crate) fn write(&mut self, tables: &mut Tables<F::Abi>) -> Result<()> {
        ensure!(self.try_write(tables), "the reconciler did not get through");
        Ok(())
    }
}

fn name(frontend: SocketAddr, protocol: Protocol) -> ServiceName {
    ServiceName::new("default", &format!("{frontend}-{protocol}"))
}

/// As plans have them.
fn sorted<F: Tabled>(endpoints: &[SocketAddr]) -> Vec<EndpointAddress<F::Abi>> {
    let mut sorted: Vec<_> = endpoints.iter().map(|socket| endpoint_of::<F>(*socket)).collect();
    sorted.sort_unstable();
    sorted
}

fn set_of<F: Tabled>(endpoints: &[SocketAddr], empty: EmptySet) -> SetPlan<F::Abi> {
    if endpoints.is_empty() {
        SetPlan::Empty(empty)
    } else {
        SetPlan::Endpoints(sorted::<F>(endpoints))
    }
}

fn endpoint_of<F: Tabled>(socket: SocketAddr) -> EndpointAddress<F::Abi> {
    EndpointAddress { address: address::<F>(socket), port: Port::new(socket.port()) }
}
