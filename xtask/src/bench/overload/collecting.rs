// SPDX-License-Identifier: Apache-2.0
//! What it takes from traffic and processors to look for silent flows among a million.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use procfs::process::Process;
use proxy_tests::{agent::Agent, family::IpFamily};

use super::SERVICES;
use crate::{
    bench::{
        network::{Client, Ground, Kind, Layout, Network, Node, Proxy},
        report::{Chart, Figure},
        setup::Setup,
        work::{Amount, Asker, Work},
    },
    progress::Part,
    statistics::{quantile, real},
};

/// How many flows each family has, and how many there is room for.
const FLOWS: u32 = 1_000_000;
const ROOM: u32 = 1 << 20;
const KIND: Kind =
    Kind { proxy: Proxy::Sixfour, services: SERVICES, flows: FLOWS, room: Some(ROOM) };
const WORK: Work = Work::REQUESTS;

/// How often the agent looks for them, and how often it is watched doing so in each family; in a hurry, once.
const PERIOD: Duration = Duration::from_secs(30);
const RUNS: u32 = 4;
/// A window is short beside a run.
const WINDOW: Duration = Duration::from_millis(200);
/// Of a window the part that the agent must have worked for it to be one of a run.
const WORKS: f64 = 0.2;

/// Its title, its unit, how many digits are shown, and what it is of a window.
type Quantity = (&'static str, &'static str, usize, fn(&Window) -> f64);

const COLLECTING: &str = "while the agent collects";
const OTHERWISE: &str = "otherwise";

/// A window: requests a second, their latency, and for how long the agent has worked, in seconds.
struct Window {
    rate: f64,
    median: f64,
    p99: f64,
    worked: f64,
}

impl Window {
    fn is_collecting(&self) -> bool {
        self.worked >= WORKS * WINDOW.as_secs_f64()
    }
}

/// Measures in both families.
///
/// # Errors
///
/// If a request fails, or the agent does not collect.
pub(super) fn measure(setup: &Setup) -> Result<Vec<Chart>> {
    let ground = Ground::new(Layout::OnNode, vec![KIND])?;
    let network = Network::start(&ground, setup)?;
    let time = PERIOD * if setup.quick { 1 } else { RUNS };
    let what = format!("requests beside {FLOWS} flows that are looked through");
    let part = Part::new(what, IpFamily::ALL.len());
    let awake = setup.keep_awake()?;
    let mut measured = Vec::new();
    for family in IpFamily::ALL {
        part.on(format_args!("{}, {time:?}", family.name()));
        measured.push((family, windows(setup, network.node(KIND)?, family, time)?));
        part.done();
    }
    awake.stop()?;
    network.stop()?;
    charts(&measured)
}

fn windows(
    setup: &Setup,
    node: &Node<'_>,
    family: IpFamily,
    time: Duration,
) -> Result<Vec<Window>> {
    let asker = Asker::new(node.client(Client::Pod), &setup.processors)?;
    let target = WORK.service().cluster_ip(family);
    let agent = node.agent().context("there is no agent")?;
    let _ = WORK.amount(&asker, target, WINDOW)?;
    let (begun, mut windows) = (Instant::now(), Vec::new());
    let mut before = processor_time(agent)?;
    while begun.elapsed() < time {
        let values = WORK.measure(&asker, target, Amount::Time(WINDOW))?.values;
        let after = processor_time(agent)?;
        let [rate, median, _, p99] = values[..] else { continue };
        windows.push(Window { rate, median, p99, worked: after - before });
        before = after;
    }
    let collecting = windows.iter().filter(|window| window.is_collecting()).count();
    ensure!(collecting > 0, "the agent has not collected within {time:?}");
    Ok(windows)
}

/// For how long an agent has worked, threads that have ended included, in seconds.
fn processor_time(agent: &Agent<'_>) -> Result<f64> {
    let id = agent.process().context("the agent does not run")?.id();
    let stat = Process::new(id.try_into()?)?.stat()?;
    let ticks = usize::try_from(stat.utime + stat.stime)?;
    let second = usize::try_from(procfs::ticks_per_second())?;
    Ok(real(ticks) / real(second))
}

fn charts(measured: &[(IpFamily, Vec<Window>)]) -> Result<Vec<Chart>> {
    let chart = |title: &str, unit: &str, digits, figures| Chart {
        title: format!("{FLOWS} flows: {title}"),
        unit: unit.to_owned(),
        digits,
        axis: None,
        in_summary: true,
        rounds: measured.iter().map(|(_, windows)| windows.len()).min().unwrap_or_default(),
        dropped: 0,
        figures,
    };
    let mut charts = Vec::new();
    let quantities: [Quantity; 3] = [
        ("requests on one connection", "1/s", 0, |window| window.rate),
        ("latency of requests, median", "µs", 1, |window| window.median),
        ("latency of requests, 99 %", "µs", 1, |window| window.p99),
    ];
    for (title, unit, digits, of) in quantities {
        let mut figures = Vec::new();
        for (family, windows) in measured {
            let values = |is_collecting| -> Vec<f64> {
                let chosen = windows.iter().filter(|it| it.is_collecting() == is_collecting);
                chosen.map(of).collect()
            };
            let (collecting, others) = (values(true), values(false));
            // They are no pairs: each beside the median of the others.
            let usual = vec![quantile(others.iter().copied(), 0.5); collecting.len()];
            let collecting = Figure::new(COLLECTING, *family, collecting)?;
            figures.push(collecting.beside(OTHERWISE, &usual, None));
            figures.push(Figure::new(OTHERWISE, *family, others)?);
        }
        charts.push(chart(title, unit, digits, figures));
    }
    let mut figures = Vec::new();
    for (family, windows) in measured {
        let worked: f64 = windows.iter().map(|window| window.worked).sum();
        let time = real(windows.len()) * WINDOW.as_secs_f64();
        figures.push(Figure::new("the agent", *family, vec![100.0 * worked / time])?);
    }
    charts.push(chart("processor time of the agent", "% of a processor", 2, figures));
    Ok(charts)
}

pub(super) fn note() -> String {
    format!(
        "Collecting: the agent's tables of both families have {FLOWS} flows each, copies of the entries of a real one \
         which are not over, and are looked through every {} s while a pod asks one request after the other. A window of \
         {WINDOW:?} in which the agent has worked for {:.0} % is one in which it collects; it is compared with the median \
         of the others. The processor time is all that the agent has taken, by the time of the windows.",
        PERIOD.as_secs(),
        WORKS * 100.0,
    )
}
