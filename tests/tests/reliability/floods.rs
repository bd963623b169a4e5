// SPDX-License-Identifier: Apache-2.0

//! SYNs of clients that are not there, many times as many as there is room for flows: what is known goes on, and new
//! connections get through.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::agent::Agent;
use proxy_tests::family::IpFamily;
use proxy_tests::flood::SynFlood;
use proxy_tests::load::{Kind, Report, Row};
use proxy_tests::topology::Host;

use super::rig::{CLIENT, Rig};

/// The room for flows of each family.
const FLOWS: u64 = 1024;
/// SYNs a second in each family, and for how long: this many times the room, and more on a machine that does nothing
/// else.
const RATE: u32 = 2000;
const LASTS: Duration = Duration::from_secs(5);
const TIMES: u64 = 4;
/// How long the clients ask before the flood.
const KNOWN: Duration = Duration::from_secs(1);
/// Those half-open at a time are an eighth of all: half as many must be seen.
const HALF_OPEN: usize = 64;
/// Of a hundred new connections so many at least must get through at the first attempt: each has as long as the flood
/// takes for all places of half-open flows (64 ms), which a machine that does other things may not give it.
const THROUGH: u32 = 95;

#[test]
fn a_flood_of_syns_from_outside() -> Result<()> {
    let rig = Rig::new()?;
    let outsider = rig.cluster.topology.outsider("outsider");
    outlasted(&rig, outsider, true)
}

#[test]
fn a_flood_of_syns_from_a_pod() -> Result<()> {
    let rig = Rig::new()?;
    outlasted(&rig, rig.pod(CLIENT), false)
}

/// How many flows of a family are half-open.
fn half_open(agent: &Agent<'_>, family: IpFamily) -> Result<usize> {
    let flows = agent.list("flows")?;
    let flows = flows.as_array().context("no array")?.iter();
    let are = flows.filter(|flow| flow["family"] == family.name() && flow["state"] == "half-open");
    Ok(are.count())
}

fn outlasted(rig: &Rig, from: &Host, is_outside: bool) -> Result<()> {
    // SYN-ACKs have somewhere to go, where nobody says that they are not wanted.
    rig.sink_floods()?;
    let mut agent = rig.agent().argument("--max-flows").argument(FLOWS.to_string()).start()?;
    let (load, begun) = (rig.load()?, Instant::now());
    // By then each flow is one that has proved that its client is there: a flood may not take its place.
    thread::sleep(KNOWN);
    let start = |family| SynFlood::start(from, Rig::web(family, is_outside), RATE);
    let floods = IpFamily::ALL.into_iter().map(start).collect::<Result<Vec<_>>>()?;
    load.note(format_args!("{RATE} SYNs a second in each family"));
    thread::sleep(LASTS);
    let waiting = IpFamily::ALL.map(|family| half_open(&agent, family));
    for flood in floods {
        let sent = flood.stop()?;
        ensure!(sent > TIMES * FLOWS, "only {sent} SYNs in {LASTS:?}");
    }
    for waiting in waiting {
        let waiting = waiting?;
        ensure!(waiting > HALF_OPEN, "only {waiting} flows were half-open");
    }
    load.note("the flood has ended");
    let report = load.stop()?;
    judge(&report, begun.elapsed())?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// What was known has lost nothing, and of new connections nearly all have got through.
fn judge(report: &Report, lasted: Duration) -> Result<()> {
    let is_new = |row: &&Row| matches!(row.kind, Kind::Short | Kind::Affinity);
    ensure!(report.strange.is_empty(), "{report}");
    for row in report.rows.iter().filter(|row| !is_new(row)) {
        let record = &row.record;
        let all = (record.sent, record.sent, 0, 0);
        let seen = (record.answered, row.seen, record.twice.len(), record.mistaken.len());
        ensure!(seen == all, "what was known has lost something: {row}\n{report}");
        // A tenth of what it does on a machine that is not busy.
        ensure!(u128::from(record.sent) > lasted.as_millis() / 200, "too few: {row}\n{report}");
    }
    for family in IpFamily::ALL {
        let rows = || report.rows.iter().filter(is_new).filter(|row| row.family() == family);
        let sent: u32 = rows().map(|row| row.record.sent).sum();
        let again: usize = rows().map(|row| row.record.sent_again.len()).sum();
        let answered: u32 = rows().map(|row| row.record.answered).sum();
        let answered = answered - u32::try_from(again)?;
        eprintln!("{family}: {answered} of {sent} new connections in {lasted:.1?}");
        ensure!(sent > 100 && answered * 100 >= sent * THROUGH, "{family}:\n{report}");
    }
    Ok(())
}
