// SPDX-License-Identifier: Apache-2.0
//! `sixfour list flows`.

use std::net::SocketAddr;

use proxy_common::Protocol;
use proxy_common::{
    Family,
    clock::{PER_SECOND, Tick},
    flow::{Flow, FlowKey, Kind, Seen},
    frontend::ServiceIndex,
};
use serde::Serialize;

use super::{Names, socket_address};
use crate::bpf::{Tables, clock};
use crate::cli::FilterArgs;
use crate::table::Row;

/// A flow, as its forward entry has it.
#[derive(Debug, Serialize)]
pub(super) struct FlowRow {
    family: &'static str,
    protocol: String,
    client: SocketAddr,
    frontend: SocketAddr,
    backend: SocketAddr,
    /// The client's address and port as the backend sees them.
    source: SocketAddr,
    service: String,
    state: &'static str,
    /// Seconds since the last packet, to within a second.
    idle_seconds: u32,
    /// Seconds of silence until the flow is forgotten.
    timeout_seconds: u32,
}

impl Row for FlowRow {
    const HEAD: &'static [&'static str] =
        &["PROTOCOL", "CLIENT", "FRONTEND", "BACKEND", "SERVICE", "STATE", "IDLE", "TIMEOUT"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.protocol.clone(),
            self.client.to_string(),
            self.frontend.to_string(),
            self.backend.to_string(),
            self.service.clone(),
            self.state.to_owned(),
            format!("{}s", self.idle_seconds),
            format!("{}s", self.timeout_seconds),
        ]
    }
}

/// All live flows of interest, by client.
pub(super) fn rows<F: Family>(
    tables: &Tables<F>,
    filter: &FilterArgs,
) -> anyhow::Result<Vec<FlowRow>> {
    let names = Names::read(tables)?;
    let now = clock::now();
    let mut rows = Vec::new();
    for entry in tables.flows() {
        let (key, flow) = entry?;
        if !flow.kind.has(Kind::REPLY) && !flow.is_expired(key.protocol, now) {
            let row = row(&names, &key, &flow, now);
            let addresses = [row.client, row.frontend, row.backend].map(|address| address.ip());
            if filter.has_service(&row.service) && filter.has_address(addresses) {
                rows.push(row);
            }
        }
    }
    rows.sort_by(|a, b| {
        (a.client, a.frontend, &a.protocol).cmp(&(b.client, b.frontend, &b.protocol))
    });
    Ok(rows)
}

fn row<F: Family>(names: &Names, key: &FlowKey<F>, flow: &Flow<F>, now: Tick) -> FlowRow {
    FlowRow {
        family: F::NAME,
        protocol: key.protocol.to_string(),
        client: socket_address(key.tuple.source, key.tuple.source_port),
        frontend: socket_address(key.tuple.destination, key.tuple.destination_port),
        backend: socket_address(flow.to.destination, flow.to.destination_port),
        source: socket_address(flow.to.source, flow.to.source_port),
        service: if flow.service == ServiceIndex::DIRECT {
            "(direct)".to_owned()
        } else {
            names.of(flow.service)
        },
        state: state(flow, key.protocol),
        idle_seconds: now.since(flow.last_seen) / PER_SECOND,
        timeout_seconds: flow.timeout(key.protocol) / PER_SECOND,
    }
}

fn state<F: Family>(flow: &Flow<F>, protocol: Protocol) -> &'static str {
    let fins =
        [flow.client_seen, flow.backend_seen].iter().filter(|seen| seen.has(Seen::FIN)).count();
    match (flow.is_confirmed(), protocol) {
        _ if flow.client_seen.has(Seen::RST) || flow.backend_seen.has(Seen::RST) => "reset",
        (false, _) => "half-open",
        (true, Protocol::TCP) if fins == 2 => "closed",
        (true, Protocol::TCP) if fins == 1 => "half-closed",
        (true, Protocol::TCP) => "established",
        (true, _) => "confirmed",
    }
}
