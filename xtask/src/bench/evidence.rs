// SPDX-License-Identifier: Apache-2.0
//! Whether what is measured was done by the proxy that it is said of: its counters move, and only
//! its own.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Map, MapData, PerCpuArray};
use proxy_common::{ABI_VERSION, V4, V6, counter::Reason, map_names};
use proxy_tests::{agent::Agent, family::IpFamily, topology::Host};

use crate::statistics::real;

/// The least part of packets that must have left from drivers where they are to do so: the others have gone
/// through the stack, as one a second and next hop does, and the first ones of a run.
const FROM_DRIVER: f64 = 0.9;

/// How many packets may leave from drivers after the window that they are of: the ends of its connections.
const LATE: usize = 100;

/// What the programs of an agent have done, in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Flows that packets have opened.
    flows: usize,
    /// Those of them that go past the host's stack.
    fast: usize,
    /// Sockets that were given a backend.
    sockets: usize,
    /// Packets that have left from a driver.
    sent: usize,
    /// Packets of no flow that the program in a driver has left to the stack.
    seen: usize,
}

/// What the programs of an agent must have done in a window, in one family: so much, or more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expected {
    /// Nothing: what was measured is another path.
    Nothing,
    /// Opened flows, none of which goes past the host's stack.
    Flows(f64),
    /// Opened flows, all of which go past it.
    FastFlows(f64),
    /// Given sockets a backend.
    Sockets(f64),
    /// Nothing but letting packets through a driver.
    ThroughDriver(f64),
    /// Opened flows, and sent packets from drivers.
    FromDriver { flows: f64, packets: f64 },
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
            anyhow::Ok(usize::try_from(counters.get(&row, 0)?.iter().sum::<u64>())?)
        };
        Ok(Self {
            flows: count(Reason::FlowCreated)?,
            fast: count(Reason::FlowFast)?,
            sockets: count(Reason::SocketTranslated)?,
            sent: count(Reason::XdpSent)?,
            seen: count(Reason::XdpUpOther)?,
        })
    }
}

impl Counted {
    /// How many flows packets have opened.
    pub(crate) const fn flows(self) -> usize {
        self.flows
    }
}

impl Expected {
    /// That this was done between two looks at the counters, all of it, and nothing else.
    ///
    /// # Errors
    ///
    /// If that is not so.
    pub(crate) fn ensure(self, before: Counted, after: Counted) -> Result<()> {
        let since = |count: fn(Counted) -> usize| count(after).checked_sub(count(before));
        let moved = [since(|it| it.flows), since(|it| it.fast), since(|it| it.sockets)];
        let is_so = match (self, moved, since(|it| it.sent)) {
            (Self::Nothing, moved, Some(sent)) => moved == [Some(0); 3] && sent <= LATE,
            (Self::ThroughDriver(least), moved, Some(sent)) => {
                let seen = since(|it| it.seen).unwrap_or_default();
                moved == [Some(0); 3] && sent <= LATE && real(seen) >= least * FROM_DRIVER
            }
            (Self::Flows(least), [Some(flows), Some(0), Some(0)], Some(0))
            | (Self::Sockets(least), [Some(0), Some(0), Some(flows)], Some(0)) => {
                real(flows) >= least
            }
            (Self::FastFlows(least), [Some(flows), Some(fast), Some(0)], Some(0)) => {
                real(flows) >= least && fast == flows
            }
            (
                Self::FromDriver { flows: least, packets },
                [Some(flows), Some(0), Some(0)],
                Some(sent),
            ) => real(flows) >= least && real(sent) >= packets * FROM_DRIVER,
            _ => false,
        };
        ensure!(
            is_so,
            "another path than it should be, which is {self:?}: the agent had counted {before:?}, \
             then {after:?}"
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

#[cfg(test)]
mod tests {
    use super::{Counted, Expected, LATE};

    const BEFORE: Counted = Counted { flows: 7, fast: 3, sockets: 5, sent: 11, seen: 13 };

    /// Whether it is what was expected if so much was done.
    fn is_so(expected: Expected, [flows, fast, sockets, sent]: [usize; 4]) -> bool {
        let after = Counted {
            flows: BEFORE.flows + flows,
            fast: BEFORE.fast + fast,
            sockets: BEFORE.sockets + sockets,
            sent: BEFORE.sent + sent,
            ..BEFORE
        };
        expected.ensure(BEFORE, after).is_ok()
    }

    #[test]
    fn a_path_accounts_for_all_that_was_done() {
        for (expected, done) in [
            (Expected::Nothing, [0, 0, 0, 0]),
            (Expected::Flows(10.0), [10, 0, 0, 0]),
            (Expected::FastFlows(10.0), [10, 10, 0, 0]),
            (Expected::Sockets(10.0), [0, 0, 10, 0]),
            (Expected::FromDriver { flows: 10.0, packets: 44.0 }, [10, 0, 0, 40]),
        ] {
            assert!(is_so(expected, done), "{expected:?}");
            if expected != Expected::Nothing {
                assert!(is_so(expected, done.map(|count| count * 2)), "{expected:?} is the least");
                assert!(!is_so(expected, done.map(|count| count / 10)), "one, and a fall-back");
            }
            for place in 0..done.len() {
                let mut other = done;
                other[place] = match (done[place], place) {
                    (0, 3) => LATE + 1,
                    (0, _) => 1,
                    (count, _) => count - 1,
                };
                assert!(!is_so(expected, other), "{expected:?} is not {other:?}");
            }
        }
    }

    #[test]
    fn what_a_driver_lets_through_is_seen_there() {
        let after = |seen| Counted { seen: BEFORE.seen + seen, ..BEFORE };
        let expected = Expected::ThroughDriver(100.0);
        assert!(expected.ensure(BEFORE, after(90)).is_ok());
        assert!(expected.ensure(BEFORE, after(89)).is_err(), "there is no program");
        let opened = Counted { flows: BEFORE.flows + 1, ..after(100) };
        assert!(expected.ensure(BEFORE, opened).is_err(), "through a Service");
    }

    #[test]
    fn counters_that_begin_anew_are_no_evidence() {
        let after = Counted { flows: 0, ..BEFORE };
        assert!(Expected::Flows(0.0).ensure(BEFORE, after).is_err());
    }
}
