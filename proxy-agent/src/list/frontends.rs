// SPDX-License-Identifier: Apache-2.0
//! `sixfour list frontends`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use proxy_common::{
    Family,
    frontend::{FrontendKind, ServiceIndex},
    service::{EmptySet, Policy},
};
use serde::Serialize;

use super::{Names, socket_address};
use crate::bpf::Tables;
use crate::cli::FilterArgs;
use crate::table::Row;

/// A frontend.
#[derive(Debug, Serialize)]
pub(super) struct FrontendRow {
    pub(super) service: String,
    /// Node ports are at the unspecified address, which stands for each of the node's at which
    /// they are served.
    frontend: SocketAddr,
    protocol: String,
    /// `ClusterIP`, `NodePort`, `ExternalIP` or `LoadBalancer`.
    kind: &'static str,
    /// How many backends serve it on this node.
    backends: u32,
    /// `Cluster` or `Local`.
    internal_traffic_policy: &'static str,
    /// `Cluster` or `Local`.
    external_traffic_policy: &'static str,
    /// For how many seconds after its last new flow a client stays with its backend.
    affinity_seconds: Option<u32>,
    /// Whose clients are served at a load balancer's address, if not all are.
    source_ranges: Vec<String>,
    /// What becomes of new flows, of those from outside where another policy is for these.
    state: &'static str,
}

impl Row for FrontendRow {
    const HEAD: &'static [&'static str] = &[
        "SERVICE", "KIND", "FRONTEND", "PROTOCOL", "BACKENDS", "POLICY", "AFFINITY", "SOURCES",
        "STATE", "PROBLEM",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.service.clone(),
            self.kind.to_owned(),
            self.frontend.to_string(),
            self.protocol.clone(),
            self.backends.to_string(),
            match self.kind {
                "ClusterIP" => self.internal_traffic_policy.to_owned(),
                _ => self.external_traffic_policy.to_owned(),
            },
            self.affinity_seconds.map(|seconds| format!("{seconds}s")).unwrap_or_default(),
            self.source_ranges.join(","),
            self.state.to_owned(),
            String::new(),
        ]
    }
}

/// All frontends of Service ports of interest, by name.
pub(super) fn rows<F: Family>(
    tables: &Tables<F>,
    filter: &FilterArgs,
) -> anyhow::Result<Vec<FrontendRow>> {
    let names = Names::read(tables)?;
    let mut ranges: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for range in tables.source_ranges() {
        let (index, range) = range?;
        let address: IpAddr = range.address.into();
        ranges.entry(index).or_default().push(format!("{address}/{}", range.length));
    }
    for list in ranges.values_mut() {
        list.sort();
    }
    let mut rows = Vec::new();
    for entry in tables.frontends() {
        let (key, frontend) = entry?;
        let index = frontend.service();
        if index < ServiceIndex::FIRST {
            continue;
        }
        let name = names.of(index);
        if !filter.has_service(&name) || !filter.has_address([key.address.into()]) {
            continue;
        }
        let service = tables.service(index)?;
        let policy = service.policy;
        let (kind, bit) = match frontend.kind() {
            FrontendKind::ClusterIp => ("ClusterIP", Policy::INTERNAL_LOCAL),
            FrontendKind::NodePort => ("NodePort", Policy::EXTERNAL_LOCAL),
            FrontendKind::ExternalIp => ("ExternalIP", Policy::EXTERNAL_LOCAL),
            FrontendKind::LoadBalancer => ("LoadBalancer", Policy::EXTERNAL_LOCAL),
        };
        let set = if policy.has(bit) { service.local } else { service.cluster };
        let local = |bit| if policy.has(bit) { "Local" } else { "Cluster" };
        let restricted =
            frontend.kind() == FrontendKind::LoadBalancer && policy.has(Policy::SOURCE_RANGES);
        rows.push(FrontendRow {
            service: name,
            frontend: socket_address(key.address, key.port),
            protocol: key.protocol.to_string(),
            kind,
            backends: set.count(),
            internal_traffic_policy: local(Policy::INTERNAL_LOCAL),
            external_traffic_policy: local(Policy::EXTERNAL_LOCAL),
            affinity_seconds: Some(policy.affinity_seconds()).filter(|seconds| *seconds > 0),
            source_ranges: ranges.get(&index).filter(|_| restricted).cloned().unwrap_or_default(),
            state: match set.when_empty() {
                None => "serving",
                Some(EmptySet::Reject) => "refusing",
                Some(EmptySet::Drop) => "dropping",
            },
        });
    }
    rows.sort_by(|a, b| {
        (&a.service, a.frontend, &a.protocol).cmp(&(&b.service, b.frontend, &b.protocol))
    });
    Ok(rows)
}
