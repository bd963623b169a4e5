// SPDX-License-Identifier: Apache-2.0
//! The tables as text, for people and for golden files: every frontend with what a program would
//! find behind it. Which rows things have got, and how often those were used, does not show.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use proxy_common::{
    Family, Port, Protocol,
    backend::BackendId,
    frontend::{Frontend, FrontendKey, FrontendKind, ServiceIndex},
    name,
    service::{BackendSet, EmptySet, Policy},
    service_cidr::Prefix,
};

use super::{Fake, safety::range};
use crate::dataplane::SetKind;

impl<F: Family> Fake<F> {
    /// The tables as sorted text.
    #[must_use]
    pub fn dump(&self) -> String {
        let mut frontends: Vec<_> = self.frontends.iter().collect();
        frontends.sort_by_key(|(key, _)| {
            let address: IpAddr = key.address.into();
            (address, key.port.number(), key.protocol)
        });
        let mut lines = Vec::new();
        let mut used = BTreeSet::new();
        for (key, value) in frontends {
            let key = frontend(key);
            match value.service() {
                ServiceIndex::REFUSE => lines.push(format!("{key} refuse\n")),
                ServiceIndex::DIRECT => lines.push(format!("{key} direct\n")),
                ServiceIndex::NODE => lines.push(format!("{key} node\n")),
                _ => lines.push(format!("{key} {}", self.dump_service(*value, &mut used))),
            }
        }
        let idle = |id: &BackendId| !used.contains(id) && !self.is_retired(*id);
        let idle = self.backends.keys().copied().filter(idle);
        for backend in self.members(idle) {
            lines.push(format!("in no set: {backend}\n"));
        }
        lines.concat()
    }

    fn dump_service(&self, value: Frontend, used: &mut BTreeSet<BackendId>) -> String {
        let index = value.service();
        let row = self.services.get(&index).copied().unwrap_or_default();
        let mut policy = policy(row.policy, value.kind());
        if value.kind() == FrontendKind::LoadBalancer && row.policy.has(Policy::SOURCE_RANGES) {
            let mut sources: Vec<_> = self.ranges_of(index).map(prefix).collect();
            if row.policy.has(Policy::NODE_IN_RANGES) {
                sources.push("node".to_owned());
            }
            policy = format!("{policy} from={}", sources.join(","));
        }
        let name = self.names.get(&index).map(service_port).unwrap_or_default();
        let sets = SetKind::ALL.map(|which| {
            let members = self.dump_set(which.of(&row), used);
            format!("  {which}: {members}\n")
        });
        format!("{name} {policy}\n{}", sets.concat())
    }

    fn dump_set(&self, set: BackendSet, used: &mut BTreeSet<BackendId>) -> String {
        match set.when_empty() {
            Some(EmptySet::Reject) => "reject".to_owned(),
            Some(EmptySet::Drop) => "drop".to_owned(),
            None => {
                let ids = range(set).filter_map(|slot| self.slots.get(&slot).copied());
                used.extend(ids.clone());
                self.members(ids).join(" ")
            }
        }
    }

    /// The addresses of backends, in their order.
    fn members(&self, ids: impl Iterator<Item = BackendId>) -> Vec<String> {
        let backends = ids.filter_map(|id| self.backends.get(&id));
        let mut members: Vec<_> =
            backends.map(|backend| socket(backend.address.into(), backend.port)).collect();
        members.sort();
        members.iter().map(ToString::to_string).collect()
    }
}

fn frontend<F: Family>(key: &FrontendKey<F>) -> String {
    let address: IpAddr = key.address.into();
    if key.protocol == Protocol::ANY {
        return address.to_string();
    }
    format!("{}/{}", socket(address, key.port), key.protocol)
}

/// What becomes of clients from outside at a frontend of this kind.
fn policy(policy: Policy, kind: FrontendKind) -> String {
    let (kind, local) = match kind {
        FrontendKind::ClusterIp => ("cluster-ip", Policy::INTERNAL_LOCAL),
        FrontendKind::NodePort => ("node-port", Policy::EXTERNAL_LOCAL),
        FrontendKind::ExternalIp => ("external-ip", Policy::EXTERNAL_LOCAL),
        FrontendKind::LoadBalancer => ("load-balancer", Policy::EXTERNAL_LOCAL),
    };
    let set = if policy.has(local) { "local" } else { "cluster" };
    let affinity = match policy.affinity_seconds() {
        0 => String::new(),
        seconds => format!(" affinity={seconds}s"),
    };
    format!("{kind} {set}{affinity}")
}

fn prefix<F: Family>(prefix: &Prefix<F>) -> String {
    let address: IpAddr = prefix.address.into();
    format!("{address}/{}", prefix.length)
}

const fn socket(address: IpAddr, port: Port) -> SocketAddr {
    SocketAddr::new(address, port.number())
}

fn service_port(name: &name::ServiceName) -> String {
    let text = |label| name::text(label).unwrap_or("?");
    let (namespace, service) = (text(&name.namespace), text(&name.name));
    let port = text(&name.port);
    format!("{namespace}/{service}:{port}")
}
