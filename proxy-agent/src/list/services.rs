// SPDX-License-Identifier: Apache-2.0
//! `sixfour list services`.

use std::net::SocketAddr;

use proxy_common::{
    Family,
    frontend::ServiceIndex,
    service::{EmptySet, Policy},
};
use serde::Serialize;

use super::{Names, Row, socket_address};
use crate::bpf::Tables;

/// A frontend.
#[derive(Debug, Serialize)]
pub(super) struct FrontendRow {
    service: String,
    frontend: SocketAddr,
    protocol: String,
    /// How many backends serve it on this node.
    backends: u32,
    /// `Cluster` or `Local`.
    internal_traffic_policy: &'static str,
    /// What becomes of new flows.
    state: &'static str,
}

impl Row for FrontendRow {
    const HEAD: &'static [&'static str] =
        &["SERVICE", "FRONTEND", "PROTOCOL", "BACKENDS", "POLICY", "STATE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.service.clone(),
            self.frontend.to_string(),
            self.protocol.clone(),
            self.backends.to_string(),
            self.internal_traffic_policy.to_owned(),
            self.state.to_owned(),
        ]
    }
}

/// All frontends of Service ports, by name.
pub(super) fn rows<F: Family>(tables: &Tables<F>) -> anyhow::Result<Vec<FrontendRow>> {
    let names = Names::read(tables)?;
    let mut rows = Vec::new();
    for entry in tables.frontends() {
        let (key, frontend) = entry?;
        let index = frontend.service();
        if index < ServiceIndex::FIRST {
            continue;
        }
        let service = tables.service(index)?;
        let local = service.policy.has(Policy::INTERNAL_LOCAL);
        let set = if local { service.local } else { service.cluster };
        rows.push(FrontendRow {
            service: names.of(index),
            frontend: socket_address(key.address, key.port),
            protocol: key.protocol.to_string(),
            backends: set.count(),
            internal_traffic_policy: if local { "Local" } else { "Cluster" },
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
