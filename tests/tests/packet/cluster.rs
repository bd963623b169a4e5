// SPDX-License-Identifier: Apache-2.0

//! Services as the agent writes them: plans, brought into the tables by the reconciler.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use proxy_agent::bpf::Tables;
use proxy_agent::model::{ServiceName, ServicePortName};
use proxy_agent::plan::{EndpointAddress, PortId, PortPlan, ServicePlan, SetPlan};
use proxy_agent::reconcile::{FamilyReconciler, Rows};
use proxy_common::Port;
use proxy_common::service::{EmptySet, Policy};
use proxy_tests::protocol::Protocol;

use crate::rig::{Tabled, address, frontend_key, number};

/// A reconciler, and the time that it believes it is.
pub(crate) struct Cluster<F: Tabled> {
    reconciler: FamilyReconciler<F::Abi>,
    pub(crate) now: Duration,
}

impl<F: Tabled> Cluster<F> {
    /// Tables with this much room, of which nothing has been used yet.
    pub(crate) fn new(rows: Rows) -> Self {
        Self { reconciler: FamilyReconciler::new(rows), now: Duration::ZERO }
    }

    /// Wants a Service with one port, of which every endpoint serves.
    pub(crate) fn put(
        &mut self,
        frontend: SocketAddr,
        protocol: Protocol,
        endpoints: &[SocketAddr],
    ) {
        let service = name(frontend, protocol);
        let protocol_number = number(protocol);
        let mut endpoints: Vec<_> =
            endpoints.iter().map(|endpoint| endpoint_of::<F>(*endpoint)).collect();
        // As plans are.
        endpoints.sort_unstable();
        let set = match endpoints.as_slice() {
            [] => SetPlan::Empty(EmptySet::Reject),
            some => SetPlan::Endpoints(some.to_vec()),
        };
        let port = PortPlan {
            id: PortId { number: Port::new(frontend.port()), protocol: protocol_number },
            name: ServicePortName {
                service: service.clone(),
                port: "".into(),
                protocol: protocol_number,
            },
            frontends: vec![frontend_key::<F>(frontend, protocol)],
            serving: endpoints,
            cluster: Some(set),
            local: None,
            policy: Policy::default(),
        };
        let plan = ServicePlan {
            service: service.clone(),
            created: None,
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

fn endpoint_of<F: Tabled>(socket: SocketAddr) -> EndpointAddress<F::Abi> {
    EndpointAddress { address: address::<F>(socket), port: Port::new(socket.port()) }
}
