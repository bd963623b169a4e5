// SPDX-License-Identifier: Apache-2.0
//! `sixfour list services`: whether each Service port is programmed, and what has been counted of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proxy_common::{Family, frontend::ServiceIndex, traffic::Traffic};
use serde::Serialize;

use super::{Names, shortfalls};
use crate::{bpf::Tables, cli::FilterArgs, table::Row};

/// A Service port in a family; or a Service, or what is no Service's, of which all is missing.
#[derive(Debug, Serialize)]
pub(super) struct ServiceRow {
    service: String,
    family: &'static str,
    /// `programmed`; `partly`, if something of it is not in the tables; `missing`, if nothing is.
    state: &'static str,
    /// Why something is not in the tables.
    problems: Vec<String>,
    /// At how many addresses and ports it is served.
    frontends: usize,
    /// How many backends there are for clients anywhere, and how many of them for those that ask for one of this node.
    backends: u32,
    local_backends: u32,
    /// What has been counted; nothing if it is not.
    counters: Option<Counters>,
}

/// What has been counted of a Service port since it was programmed.
#[derive(Debug, Serialize)]
struct Counters {
    requests: u64,
    request_bytes: u64,
    replies: u64,
    reply_bytes: u64,
    flows: u64,
    sockets: u64,
    rejected: u64,
    dropped: u64,
}

impl From<Traffic> for Counters {
    fn from(traffic: Traffic) -> Self {
        let [requests, replies] = traffic.volumes;
        Self {
            requests: requests.packets,
            request_bytes: requests.bytes,
            replies: replies.packets,
            reply_bytes: replies.bytes,
            flows: traffic.flows,
            sockets: traffic.sockets,
            rejected: traffic.rejected,
            dropped: traffic.dropped,
        }
    }
}

impl Row for ServiceRow {
    const HEAD: &'static [&'static str] = &[
        "SERVICE",
        "FAMILY",
        "STATE",
        "FRONTENDS",
        "BACKENDS",
        "LOCAL",
        "FLOWS",
        "SOCKETS",
        "REQUESTS",
        "REPLIES",
        "REJECTED",
        "DROPPED",
        "PROBLEM",
    ];

    fn cells(&self) -> Vec<String> {
        let count = |of: fn(&Counters) -> u64| {
            self.counters
                .as_ref()
                .map_or_else(|| "-".to_owned(), |counters| of(counters).to_string())
        };
        vec![
            self.service.clone(),
            self.family.to_owned(),
            self.state.to_owned(),
            self.frontends.to_string(),
            self.backends.to_string(),
            self.local_backends.to_string(),
            count(|counters| counters.flows),
            count(|counters| counters.sockets),
            count(|counters| counters.requests),
            count(|counters| counters.replies),
            count(|counters| counters.rejected),
            count(|counters| counters.dropped),
            self.problems.join("; "),
        ]
    }
}

/// All Service ports of a family that are of interest, by name, and behind them what is missing of others.
pub(super) fn rows<F: Family>(
    tables: &Tables<F>,
    filter: &FilterArgs,
) -> anyhow::Result<Vec<ServiceRow>> {
    let names = Names::read(tables)?;
    let missing = shortfalls::rows(tables, filter)?;
    let mut frontends: BTreeMap<ServiceIndex, Vec<IpAddr>> = BTreeMap::new();
    for entry in tables.frontends() {
        let (key, frontend) = entry?;
        frontends.entry(frontend.service()).or_default().push(key.address.into());
    }
    let mut rows = Vec::new();
    let mut told = BTreeSet::new();
    for (index, service) in names.named() {
        if !filter.has_service(&service) {
            continue;
        }
        let at = frontends.remove(&index).unwrap_or_default();
        let row = tables.service(index)?;
        let backends = || {
            let slots = row.cluster.start()..row.cluster.start() + row.cluster.count();
            slots.map(|slot| Ok(tables.backend(tables.slot(slot)?)?.address.into()))
        };
        if !filter.address.is_empty()
            && !filter.has_address(at.iter().copied())
            && !filter.has_address(backends().collect::<anyhow::Result<Vec<IpAddr>>>()?)
        {
            continue;
        }
        let concerns = missing.iter().enumerate().filter(|(_, row)| row.concerns(&service));
        let (places, problems): (Vec<_>, Vec<_>) =
            concerns.map(|(place, row)| (place, row.problem().to_owned())).unzip();
        told.extend(places);
        rows.push(ServiceRow {
            family: F::NAME,
            state: match (at.is_empty(), problems.is_empty()) {
                (true, _) => "missing",
                (false, false) => "partly",
                (false, true) => "programmed",
            },
            problems,
            frontends: at.len(),
            backends: row.cluster.count(),
            local_backends: row.local.count(),
            counters: tables.traffic(index)?.map(Counters::from),
            service,
        });
    }
    rows.sort_by(|a, b| a.service.cmp(&b.service));
    let others = missing.iter().enumerate().filter(|(place, _)| !told.contains(place));
    rows.extend(others.map(|(_, row)| ServiceRow {
        service: row.service().to_owned(),
        family: F::NAME,
        state: "missing",
        problems: vec![row.problem().to_owned()],
        frontends: 0,
        backends: 0,
        local_backends: 0,
        counters: None,
    }));
    Ok(rows)
}
