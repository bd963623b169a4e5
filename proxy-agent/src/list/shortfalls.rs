// SPDX-License-Identifier: Apache-2.0
//! What of Services is not in the tables, among what `sixfour list` says.

use proxy_common::{
    Family, Port,
    name::text,
    shortfall::{Cause, OTHERS, Shortfall},
};
use serde::Serialize;

use super::{frontends::FrontendRow, named};
use crate::table::Row;
use crate::{bpf::Tables, cli::FilterArgs};

/// A frontend, or what is missing.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Listed {
    Frontend(FrontendRow),
    Missing(ShortfallRow),
}

impl Row for Listed {
    const HEAD: &'static [&'static str] = FrontendRow::HEAD;

    fn cells(&self) -> Vec<String> {
        match self {
            Self::Frontend(row) => row.cells(),
            Self::Missing(row) => row.cells(),
        }
    }
}

/// Something of a Service that is not in the tables, as the agent that was here last has said.
#[derive(Debug, Serialize)]
pub(super) struct ShortfallRow {
    /// `namespace/name:port`, or without the port what is all of a Service's; in parentheses what is no Service's.
    service: String,
    family: &'static str,
    /// The port that clients dial, if it is one's.
    port: Option<u16>,
    /// Its protocol.
    protocol: Option<String>,
    /// `full`, `contested` (another Service has the frontend) or `failing`; `more` for those that are not listed.
    state: &'static str,
    /// The table that it is missing in, if it is known which.
    table: Option<String>,
    /// What is wrong, and what helps, in words.
    problem: String,
}

impl ShortfallRow {
    fn new(family: &'static str, row: u32, shortfall: &Shortfall) -> Self {
        let Shortfall { count, service, cause, table, message } = shortfall;
        if row == OTHERS {
            return Self {
                service: "(others)".to_owned(),
                family,
                port: None,
                protocol: None,
                state: "more",
                table: None,
                problem: format!("{count} more, which the log names"),
            };
        }
        let (is_service, is_port) = (service.namespace[0] != 0, service.number != Port::ANY);
        let read = |words| text(words).unwrap_or("?").to_owned();
        Self {
            service: if is_service { named(service) } else { format!("({})", read(&service.name)) },
            family,
            port: is_port.then(|| service.number.number()),
            protocol: is_port.then(|| service.protocol.to_string()),
            state: match *cause {
                Cause::FULL => "full",
                Cause::CONTESTED => "contested",
                _ => "failing",
            },
            table: Some(read(table)).filter(|table| !table.is_empty()),
            problem: read(message),
        }
    }

    /// What it is of.
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// What is wrong.
    pub(super) fn problem(&self) -> &str {
        &self.problem
    }

    /// Whether it is a Service port's with this name, or all of its Service's.
    pub(super) fn concerns(&self, port: &str) -> bool {
        let rest = port.strip_prefix(&self.service);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![String::new(); FrontendRow::HEAD.len()];
        cells[0].clone_from(&self.service);
        cells[1].clone_from(&self.family.to_owned());
        let port = self.port.map(|port| port.to_string());
        cells[2] = port.unwrap_or_default();
        cells[3] = self.protocol.clone().unwrap_or_default();
        let last = cells.len() - 1;
        self.state.clone_into(&mut cells[last - 1]);
        cells[last].clone_from(&self.problem);
        cells
    }
}

/// All that a family's table says of the Services of interest.
pub(super) fn rows<F: Family>(
    tables: &Tables<F>,
    filter: &FilterArgs,
) -> anyhow::Result<Vec<ShortfallRow>> {
    let mut rows = Vec::new();
    for entry in tables.shortfalls() {
        let (row, shortfall) = entry?;
        let told = ShortfallRow::new(F::NAME, row, &shortfall);
        if filter.has_service(&told.service) && filter.address.is_empty() {
            rows.push((row == OTHERS, told));
        }
    }
    rows.sort_by(|(a_last, a), (b_last, b)| {
        (a_last, &a.service, a.port, &a.problem).cmp(&(b_last, &b.service, b.port, &b.problem))
    });
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// What is there, and behind it what is not.
pub(super) fn beside(frontends: Vec<FrontendRow>, missing: Vec<ShortfallRow>) -> Vec<Listed> {
    let frontends = frontends.into_iter().map(Listed::Frontend);
    frontends.chain(missing.into_iter().map(Listed::Missing)).collect()
}
