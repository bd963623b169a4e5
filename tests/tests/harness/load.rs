// SPDX-License-Identifier: Apache-2.0

//! What a load says, where nothing translates: nothing is wrong, or exactly what is.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::load::{Caller, Kind, Load, Report, RequestId, Servers};
use proxy_tests::topology::{NodeSpec, Topology, TopologySpec};
use proxy_tests::traffic::Client;

both_families!(
    nothing_is_lost_where_nothing_happens,
    one_dropped_datagram_is_told_of,
    one_dropped_syn_is_told_of,
    one_dropped_syn_ack_is_told_of,
    one_refused_connection_is_told_of,
    one_reset_is_told_of,
    what_comes_again_or_from_nobody_is_told_of,
    the_wrong_server_is_told_of,
);

const PORT: u16 = 7000;
/// Enough for several times the ten packets that rules look for.
const TIME: Duration = Duration::from_secs(1);
/// The same, when one of them is sent again after a second.
const AGAIN_TIME: Duration = Duration::from_secs(3);
/// The same, when one of them is waited for in vain.
const LONG_TIME: Duration = Duration::from_secs(6);

fn topology() -> Result<Topology> {
    let node = NodeSpec::bridge("anc-node").pod("client", 11).pod("web-1", 12);
    TopologySpec::new().node(node).build()
}

/// Clients of some kinds ask the pod `web-1`, and believe that the endpoint has some name.
fn ask<F: TestFamily>(topology: &Topology, kinds: &[Kind], endpoint: &str) -> Result<Load> {
    let web = topology.pod("web-1");
    let callers = kinds.iter().map(|kind| Caller {
        kind: *kind,
        host: topology.pod("client"),
        target: web.socket::<F>(PORT),
        servers: Servers::staying([endpoint]),
    });
    Load::start(&[web], PORT, &callers.collect::<Vec<_>>())
}

/// What a client of a kind says when the tenth of these packets that come to a host, and no other,
/// ends like this: both are of nftables.
fn with_rule<F: TestFamily>(
    host: &str,
    kind: Kind,
    packets: &str,
    verdict: &str,
) -> Result<Report> {
    let topology = topology()?;
    let rules = format!(
        "table inet harness {{\n chain in {{\n  type filter hook input priority 0\n  \
         {packets} numgen inc mod 100000 == 9 {verdict}\n }}\n}}\n"
    );
    let _: String = topology.pod(host).namespace().output("nft", "-f -", &rules)?;
    let load = ask::<F>(&topology, &[kind], "web-1")?;
    thread::sleep(match (verdict, kind) {
        ("drop", Kind::Short) => AGAIN_TIME,
        ("drop", _) => LONG_TIME,
        _ => TIME,
    });
    load.stop()
}

/// Exactly one request is lost, by this error, and the client goes on.
fn is_one_lost(report: &Report, seen: bool, why: &str) -> Result<()> {
    let lost: Vec<_> = report.lost().collect();
    let [event] = lost[..] else { bail!("not one is lost: {report}") };
    let ends = if seen { "; a server has seen it" } else { "; no server has seen it" };
    ensure!(event.what.contains(why) && event.what.ends_with(ends), "{event:?}");
    let record = &report.rows[0].record;
    ensure!(record.sent == record.answered + 1 && record.sent > event.id.number(), "{report}");
    ensure!(record.twice.is_empty() && record.mistaken.is_empty(), "{report}");
    let said = report.ensure_nothing_lost().err().context("nothing is lost")?.to_string();
    ensure!(said.contains(&event.what), "{said}");
    Ok(())
}

fn nothing_is_lost_where_nothing_happens<F: TestFamily>() -> Result<()> {
    let topology = topology()?;
    let load = ask::<F>(&topology, &Kind::ALL, "web-1")?;
    thread::sleep(TIME);
    let report = load.stop()?;
    report.ensure_nothing_lost()?;
    ensure!(report.rows.iter().all(|row| row.seen >= 10), "too few requests: {report}");
    Ok(())
}

fn one_dropped_datagram_is_told_of<F: TestFamily>() -> Result<()> {
    let request = format!("udp dport {PORT}");
    is_one_lost(&with_rule::<F>("web-1", Kind::Connected, &request, "drop")?, false, "silence")?;
    // The way back is one, too.
    let answer = format!("udp sport {PORT}");
    is_one_lost(&with_rule::<F>("client", Kind::Unconnected, &answer, "drop")?, true, "silence")
}

/// Nothing is lost, but exactly one request had to be sent again. The first one may come before the network is ready.
fn is_one_sent_again(report: &Report) -> Result<()> {
    report.ensure_nothing_lost()?;
    let again: Vec<_> = report.sent_again().filter(|event| event.id.number() > 1).collect();
    ensure!(again.len() == 1 && report.to_string().contains(&again[0].what), "{report}");
    Ok(())
}

fn one_dropped_syn_is_told_of<F: TestFamily>() -> Result<()> {
    let first = format!("tcp flags & (syn | ack) == syn tcp dport {PORT}");
    is_one_sent_again(&with_rule::<F>("web-1", Kind::Short, &first, "drop")?)
}

fn one_dropped_syn_ack_is_told_of<F: TestFamily>() -> Result<()> {
    let second = format!("tcp flags & (syn | ack) == (syn | ack) tcp sport {PORT}");
    is_one_sent_again(&with_rule::<F>("client", Kind::Short, &second, "drop")?)
}

fn one_refused_connection_is_told_of<F: TestFamily>() -> Result<()> {
    let first = format!("tcp flags & (syn | ack) == syn tcp dport {PORT}");
    let report = with_rule::<F>("web-1", Kind::Short, &first, "reject with tcp reset")?;
    is_one_lost(&report, false, "refused")
}

fn one_reset_is_told_of<F: TestFamily>() -> Result<()> {
    let requests = format!("tcp flags & psh == psh tcp dport {PORT}");
    let report = with_rule::<F>("web-1", Kind::Long, &requests, "reject with tcp reset")?;
    is_one_lost(&report, false, "reset")
}

fn what_comes_again_or_from_nobody_is_told_of<F: TestFamily>() -> Result<()> {
    let topology = topology()?;
    let web = topology.pod("web-1").socket::<F>(PORT);
    let load = ask::<F>(&topology, &[Kind::Unconnected], "web-1")?;
    let socket = Client::new(topology.pod("client")).udp_socket(web)?;
    for id in [RequestId::new(0, 1), RequestId::new(9, 1)] {
        let _ = socket.send(&id.to_bytes())?;
        ensure!(socket.recv(&mut [0; 64])? > 0, "no answer");
    }
    let report = load.stop()?;
    ensure!(report.rows[0].record.twice == [RequestId::new(0, 1)], "{report}");
    ensure!(report.strange == [RequestId::new(9, 1)], "{report}");
    ensure!(report.ensure_nothing_lost().is_err() && report.lost().next().is_none());
    Ok(())
}

fn the_wrong_server_is_told_of<F: TestFamily>() -> Result<()> {
    let topology = topology()?;
    let load = ask::<F>(&topology, &Kind::ALL, "web-2")?;
    thread::sleep(TIME);
    let report = load.stop()?;
    for row in &report.rows {
        ensure!(row.record.mistaken.len() == usize::try_from(row.record.sent)?, "{row}");
    }
    ensure!(report.ensure_nothing_lost().is_err() && report.lost().next().is_none(), "{report}");
    Ok(())
}
