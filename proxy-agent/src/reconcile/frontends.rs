// SPDX-License-Identifier: Apache-2.0
//! Who wants which frontend, who gets it, and what the table holds.

use std::{collections::HashMap, sync::Arc};

use foldhash::quality::RandomState;
use proxy_common::{
    Family, Protocol,
    frontend::{Frontend, FrontendKey, FrontendKind, ServiceIndex},
};

use crate::{
    dataplane::Op,
    model::ServiceName,
    plan::{PortId, ServicePlan},
};

/// All frontends of a family.
///
/// Most keys are those of endpoints, of which there may be a hundred for each Service. What is known of
/// them is kept apart, in few bytes.
#[derive(Debug)]
pub(super) struct Frontends<F: Family> {
    keys: HashMap<FrontendKey<F>, State, RandomState>,
    direct: HashMap<FrontendKey<F>, Direct, RandomState>,
}

/// What is known of the address and port of endpoints.
#[derive(Debug, Default)]
struct Direct {
    /// How many Services have such an endpoint, and want the mark for it.
    marks: u32,
    /// Whether the table has the mark.
    is_applied: bool,
}

#[derive(Debug, Default)]
struct State {
    /// The Service ports that want the frontend, the one that gets it first.
    ports: Vec<PortClaim>,
    /// How many Services want a mark there: the address is their VIP.
    marks: u32,
    /// Whether the address is one of the node's, at which node ports are served.
    is_node: bool,
    /// What the table has, unless that is the mark of endpoints.
    applied: Option<Frontend>,
}

impl State {
    const fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.marks == 0 && !self.is_node && self.applied.is_none()
    }
}

/// A Service port that wants a frontend. Ordered as they take precedence: whose cluster IP it is first,
/// which no other Service takes as an external IP or a load balancer's address (CVE-2020-8554); then the
/// older Service (one that does not say when it was created comes last), then by UID, then by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortClaim {
    is_external: bool,
    created: i64,
    uid: Arc<str>,
    pub(super) service: ServiceName,
    pub(super) port: PortId,
    /// What the frontend is to the port.
    pub(super) kind: FrontendKind,
}

/// What one Service wants of one frontend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    Port(PortClaim),
    Mark,
    Node,
}

/// What a frontend should point at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Port(&'a PortClaim),
    Mark(ServiceIndex),
    Nothing,
}

/// All that a plan wants, each once, in order.
pub(super) fn claims<F: Family>(plan: &ServicePlan<F>) -> Vec<(FrontendKey<F>, Claim)> {
    let marks = plan.vips.iter().map(|vip| FrontendKey::whole(*vip));
    // What only sockets reach is no address of a packet.
    let reached = plan.ports.iter().filter(|port| !port.sockets_only);
    let direct = reached.flat_map(|port| {
        let protocol = port.id.protocol;
        let key = move |at: &crate::plan::EndpointAddress<F>| {
            FrontendKey::new(at.address, at.port, protocol)
        };
        port.serving.iter().map(key)
    });
    let ports = plan.ports.iter().flat_map(|port| {
        let claim = |kind| {
            Claim::Port(PortClaim {
                is_external: kind != FrontendKind::ClusterIp,
                created: plan.created.unwrap_or(i64::MAX),
                uid: Arc::clone(&plan.uid),
                service: plan.service.clone(),
                port: port.id,
                kind,
            })
        };
        port.frontends.iter().map(move |(key, kind)| (*key, claim(*kind)))
    });
    let marks = marks.chain(direct).map(|key| (key, Claim::Mark));
    let mut claims: Vec<_> = ports.chain(marks).collect();
    claims.sort_unstable();
    claims.dedup();
    claims
}

/// Those of `claims` that are not among `others`, both in order.
pub(super) fn without<'a, F: Family>(
    claims: &'a [(FrontendKey<F>, Claim)],
    others: &[(FrontendKey<F>, Claim)],
) -> impl Iterator<Item = &'a (FrontendKey<F>, Claim)> {
    claims.iter().filter(|claim| others.binary_search(claim).is_err())
}

impl<F: Family> Frontends<F> {
    /// How many there are. One that is an endpoint's and somebody else's counts twice.
    pub(super) fn len(&self) -> usize {
        self.keys.len() + self.direct.len()
    }

    pub(super) fn new() -> Self {
        Self { keys: HashMap::default(), direct: HashMap::default() }
    }

    /// Whether a mark there would be that of an endpoint.
    fn is_endpoint(key: &FrontendKey<F>) -> bool {
        key.protocol != Protocol::ANY
    }

    pub(super) fn claim(&mut self, key: FrontendKey<F>, claim: Claim) {
        if claim == Claim::Mark && Self::is_endpoint(&key) {
            self.direct.entry(key).or_default().marks += 1;
            return;
        }
        let state = self.keys.entry(key).or_default();
        match claim {
            Claim::Mark => state.marks += 1,
            Claim::Node => state.is_node = true,
            Claim::Port(claim) => {
                let at = state.ports.partition_point(|other| *other < claim);
                // Hardly ever is there another.
                state.ports.reserve_exact(1);
                state.ports.insert(at, claim);
            }
        }
    }

    pub(super) fn disclaim(&mut self, key: &FrontendKey<F>, claim: &Claim) {
        if *claim == Claim::Mark && Self::is_endpoint(key) {
            if let Some(direct) = self.direct.get_mut(key) {
                direct.marks -= 1;
            }
        } else if let Some(state) = self.keys.get_mut(key) {
            match claim {
                Claim::Mark => state.marks -= 1,
                Claim::Node => state.is_node = false,
                Claim::Port(claim) => state.ports.retain(|other| other != claim),
            }
        }
        self.forget_if_empty(key);
    }

    /// What a frontend should point at. An address that is a cluster IP is none of the node's.
    pub(super) fn target(&self, key: &FrontendKey<F>) -> Target<'_> {
        match self.keys.get(key) {
            Some(State { ports, .. }) if !ports.is_empty() => Target::Port(&ports[0]),
            Some(State { marks: 1.., .. }) => Target::Mark(ServiceIndex::REFUSE),
            _ if self.direct.get(key).is_some_and(|direct| direct.marks > 0) => {
                Target::Mark(ServiceIndex::DIRECT)
            }
            Some(State { is_node: true, .. }) => Target::Mark(ServiceIndex::NODE),
            _ => Target::Nothing,
        }
    }

    /// The Service ports that want a frontend, the one that gets it first.
    pub(super) fn claimants(&self, key: &FrontendKey<F>) -> &[PortClaim] {
        self.keys.get(key).map_or(&[], |state| &state.ports)
    }

    /// What the table has for a frontend.
    pub(super) fn applied(&self, key: &FrontendKey<F>) -> Option<Frontend> {
        if self.direct.get(key).is_some_and(|direct| direct.is_applied) {
            return Some(ServiceIndex::DIRECT.into());
        }
        self.keys.get(key)?.applied
    }

    /// What must be written so that a frontend is as wanted, whatever it is now.
    pub(super) fn point(
        &self,
        key: FrontendKey<F>,
        frontend: impl Into<Frontend>,
        ops: &mut Vec<Op<F>>,
    ) {
        let frontend = frontend.into();
        let applied = self.applied(&key);
        if applied == Some(frontend) {
            return;
        }
        if applied.is_some() {
            ops.push(Op::RemoveFrontend { key });
        }
        ops.push(Op::PutFrontend { key, frontend });
    }

    /// Takes over what the table has for a frontend.
    pub(super) fn found(&mut self, key: FrontendKey<F>, frontend: Frontend) {
        self.commit(&Op::PutFrontend { key, frontend });
    }

    /// Notes that an operation has been carried out.
    pub(super) fn commit(&mut self, op: &Op<F>) {
        match op {
            Op::PutFrontend { key, frontend } if *frontend == ServiceIndex::DIRECT.into() => {
                self.direct.entry(*key).or_default().is_applied = true;
            }
            Op::PutFrontend { key, frontend } => {
                self.keys.entry(*key).or_default().applied = Some(*frontend);
            }
            Op::RemoveFrontend { key } => {
                if let Some(state) = self.keys.get_mut(key) {
                    state.applied = None;
                }
                if let Some(direct) = self.direct.get_mut(key) {
                    direct.is_applied = false;
                }
                self.forget_if_empty(key);
            }
            _ => {}
        }
    }

    fn forget_if_empty(&mut self, key: &FrontendKey<F>) {
        if self.keys.get(key).is_some_and(State::is_empty) {
            let _ = self.keys.remove(key);
        }
        if self.direct.get(key).is_some_and(|direct| direct.marks == 0 && !direct.is_applied) {
            let _ = self.direct.remove(key);
        }
    }
}
