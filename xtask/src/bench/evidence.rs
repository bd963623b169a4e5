// SPDX-License-Identifier: Apache-2.0
//! Whether what is measured was done by the proxy that it is said of: its counters move, and only
//! its own.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Map, MapData, PerCpuArray};
use proxy_common::{ABI_VERSION, V4, V6, counter::Reason, map_names};
use proxy_tests::{agent::Agent, family::IpFamily, topology::Host};

use super::network::Client;

/// What the programs of an agent have done, in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Flows that packets have opened.
    flows: u64,
    /// Those of them that go past the host's stack.
    fast: u64,
    /// Sockets that were given a backend.
    sockets: u64,
}

impl Counted {
    /// What they have done so far.
    ///
    /// # Errors
    ///
    /// If the counters cannot be read.
    pub(crate) fn read(agent: &Agent<'_>, family: IpFamily) -> Result<Self> {
        let map = MapData::from_pin(table(agent, map_names::COUNTERS));
        let map = map.context("opening the agent's counters")?;
        let counters: PerCpuArray<_, u64> = Map::PerCpuArray(map).try_into()?;
        let count = |reason: Reason| {
            let row = match family {
                IpFamily::V4 => reason.row::<V4>(),
                IpFamily::V6 => reason.row::<V6>(),
            };
            anyhow::Ok(counters.get(&row, 0)?.iter().sum())
        };
        Ok(Self {
            flows: count(Reason::FlowCreated)?,
            fast: count(Reason::FlowFast)?,
            sockets: count(Reason::SocketTranslated)?,
        })
    }

    /// That since `before` the programs have done what a path through a Service takes, by the fast path
    /// if `is_fast`, and nothing if the path is another one.
    ///
    /// # Errors
    ///
    /// If that is not so.
    pub(crate) fn ensure(self, before: Self, path: Option<Client>, is_fast: bool) -> Result<()> {
        let moved =
            [self.flows > before.flows, self.fast > before.fast, self.sockets > before.sockets];
        let opens = path == Some(Client::Pod);
        let wanted = [opens, opens && is_fast, path == Some(Client::Node)];
        ensure!(
            moved == wanted,
            "another path than it should be: before, the agent had counted {before:?}, then {self:?}"
        );
        Ok(())
    }
}

/// Where an agent has pinned a table.
pub(crate) fn table(agent: &Agent<'_>, name: &str) -> PathBuf {
    agent.pin_root().join(format!("v{ABI_VERSION}/maps")).join(name)
}

/// That netfilter has no rules in a node.
///
/// # Errors
///
/// If it has.
pub(crate) fn ensure_no_rules(node: &Host) -> Result<()> {
    let rules = node.namespace().output("nft", "list ruleset", "")?;
    ensure!(rules.trim().is_empty(), "netfilter has rules on {}: {rules}", node.name());
    Ok(())
}
