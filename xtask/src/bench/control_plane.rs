// SPDX-License-Identifier: Apache-2.0
//! The section on the control plane: how long after a change at the API a connection shows it, how
//! soon an agent that starts serves, and what it takes.

mod api;
mod changes;
mod endpoints;
mod real;
mod stage;
mod start;
mod usage;

use anyhow::{Context as _, Result};
use proxy_tests::family::IpFamily;
use tokio::runtime;

use super::{
    report::{Chart, Figure, Section, Wanted},
    setup::Setup,
};
use changes::{Changed, Changes};
use stage::{ENDPOINTS, Ground, Stage};
use start::Starts;

/// How many Services there are, and in a hurry.
const SERVICES: [u32; 4] = [10, 1000, 10_000, 100_000];
const FEW_SERVICES: [u32; 2] = [10, 1000];

/// What is wanted for so many Services, or from so many on.
const MANY: u32 = 10_000;
/// From sending a change to a connection, in milliseconds, of 99 in 100.
const SHOWN: f64 = 5.0;
/// Of the start, in seconds, at so many Services; and beyond what the lists take.
const SERVED: [(u32, f64); 2] = [(MANY, 2.0), (100_000, 20.0)];
const BEYOND_LISTS: f64 = 1.0;
/// Of memory, in MiB.
const RESIDENT: f64 = 100.0;

/// What was measured at a number of Services.
struct Measured {
    services: u32,
    starts: Starts,
    changes: Changes,
}

/// From which of them a chart is.
#[derive(Clone, Copy)]
enum Origin {
    Starts,
    Changes,
    Both,
}

impl Origin {
    /// How many rounds there were at a number of Services, and how many were dropped.
    fn rounds(self, measured: &Measured) -> (usize, usize) {
        let Measured { starts, changes, .. } = measured;
        match self {
            Self::Starts => (starts.rounds, starts.dropped),
            Self::Changes => (changes.rounds, changes.dropped),
            Self::Both => (starts.rounds.min(changes.rounds), starts.dropped + changes.dropped),
        }
    }
}

/// Measures at all numbers of Services.
///
/// # Errors
///
/// If the agent does not start, or a change is not seen.
pub(super) fn run(setup: &Setup) -> Result<Section> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting threads for servers")?;
    let sizes: &[u32] = if setup.quick { &FEW_SERVICES } else { &SERVICES };
    let mut measured = Vec::new();
    for services in sizes.iter().copied() {
        let ground = Ground::new(services, runtime.handle())?;
        let mut stage = Stage::start(&ground, setup)?;
        let starts = start::measure(&mut stage, setup)?;
        let changes = changes::measure(&stage, setup)?;
        stage.stop()?;
        measured.push(Measured { services, starts, changes });
    }
    let charts = vec![sent(&measured)?, made(&measured)?, work(&measured)?, starts(&measured)?];
    let charts = charts.into_iter().chain([memory(&measured)?]).collect();
    Ok(Section { title: "Control plane".to_owned(), notes: notes(), charts })
}

fn sent(measured: &[Measured]) -> Result<Chart> {
    let title = "From sending a change to a connection that shows it";
    latency(
        title,
        measured,
        |changed| &changed.since_sent,
        |services, part| (services >= MANY && part > 0.5).then_some(Wanted::AtMost(SHOWN)),
    )
}

fn made(measured: &[Measured]) -> Result<Chart> {
    let title = "From making a change to a connection that shows it";
    latency(title, measured, |changed| &changed.since_made, |_, _| None)
}

/// Two quantiles of all changes, with what is wanted of them at a number of Services.
fn latency(
    title: &str,
    measured: &[Measured],
    values: impl Fn(&Changed) -> &Vec<f64>,
    wanted: impl Fn(u32, f64) -> Option<Wanted>,
) -> Result<Chart> {
    let mut figures = Vec::new();
    for (case, part) in [("p50", 0.5), ("p99", 0.99)] {
        for (place, family) in IpFamily::ALL.into_iter().enumerate() {
            for Measured { services, changes, .. } in measured {
                let values = values(&changes.families[place]).clone();
                let figure = Figure::quantile(case, family, values, part)?;
                figures.push(at(figure, *services, wanted(*services, part)));
            }
        }
    }
    Ok(chart(title, ("ms", 2), (measured, Origin::Changes), figures))
}

/// Processor time of the agent for each change.
fn work(measured: &[Measured]) -> Result<Chart> {
    let mut figures = Vec::new();
    for (place, family) in IpFamily::ALL.into_iter().enumerate() {
        for Measured { services, changes, .. } in measured {
            let values = changes.families[place].work.clone();
            figures.push(at(Figure::new("a change", family, values)?, *services, None));
        }
    }
    Ok(chart("Processor time of the agent", ("µs", 0), (measured, Origin::Changes), figures))
}

fn starts(measured: &[Measured]) -> Result<Chart> {
    let mut figures = Vec::new();
    for (place, family) in IpFamily::ALL.into_iter().enumerate() {
        for Measured { services, starts, .. } in measured {
            let served = starts.served[place].clone();
            let figure = Figure::new("to the first connection", family, served)?;
            let wanted = SERVED.iter().find(|(size, _)| size == services);
            let wanted = wanted.map(|(_, seconds)| Wanted::AtMost(*seconds));
            figures.push(at(figure, *services, wanted));
        }
    }
    for (place, family) in IpFamily::ALL.into_iter().enumerate() {
        for Measured { services, starts, .. } in measured {
            let both = starts.served[place].iter().zip(&starts.lists);
            let beyond = both.map(|(served, lists)| served - lists).collect();
            let figure = Figure::new("the same without the lists", family, beyond)?;
            let wanted = (*services == MANY).then_some(Wanted::AtMost(BEYOND_LISTS));
            figures.push(at(figure, *services, wanted));
        }
    }
    for Measured { services, starts, .. } in measured {
        let figure = Figure::new("the lists, by a bare client", None, starts.lists.clone())?;
        figures.push(at(figure, *services, None));
    }
    Ok(chart("Start of the agent", ("s", 2), (measured, Origin::Starts), figures))
}

fn memory(measured: &[Measured]) -> Result<Chart> {
    let mut figures = Vec::new();
    let wanted = |services| (services == MANY).then_some(Wanted::AtMost(RESIDENT));
    for Measured { services, starts, .. } in measured {
        let figure = Figure::new("resident, after the start", None, starts.resident.clone())?;
        figures.push(at(figure, *services, wanted(*services)));
    }
    for Measured { services, starts, .. } in measured {
        let figure = Figure::new("at most, until then", None, starts.peak.clone())?;
        figures.push(at(figure, *services, None));
    }
    for Measured { services, changes, .. } in measured {
        let resident = changes.resident.clone();
        let figure = Figure::new("resident, after a round of changes", None, resident)?;
        figures.push(at(figure, *services, wanted(*services)));
    }
    Ok(chart("Memory of the agent", ("MiB", 0), (measured, Origin::Both), figures))
}

/// A figure at a number of Services, with what is wanted there.
fn at(figure: Figure, services: u32, wanted: Option<Wanted>) -> Figure {
    let figure = figure.at(services.into());
    match wanted {
        Some(wanted) => figure.wanted(wanted),
        None => figure,
    }
}

fn chart(
    title: &str,
    (unit, digits): (&str, usize),
    (measured, origin): (&[Measured], Origin),
    figures: Vec<Figure>,
) -> Chart {
    let rounds = || measured.iter().map(|one| origin.rounds(one));
    Chart {
        title: title.to_owned(),
        unit: unit.to_owned(),
        digits,
        axis: Some("Services".to_owned()),
        in_summary: true,
        rounds: rounds().map(|(rounds, _)| rounds).min().unwrap_or_default(),
        dropped: rounds().map(|(_, dropped)| dropped).sum(),
        figures,
    }
}

fn notes() -> Vec<String> {
    vec![
        format!(
            "The API is {}. All Services have {ENDPOINTS} endpoints in each family. Objects are as \
             large as those of a real cluster, with what was applied and who manages which field. \
             A change sends a Service's endpoints of one family from one range of addresses to \
             another; a pod connects to the Service again and again, and the answer says which \
             range it comes from. The time goes from when the API server writes the change into \
             the agent's stream (or from when it was asked to make it) to the first answer from \
             the new range, and so has a connection in it. p50 and p99 are of all changes of all \
             rounds; fewer than 348 are too few for an interval of p99.",
            api::name(),
        ),
        "A start goes from the start of the process to the first answer that a pod gets through a \
         Service, in each family. The bare client reads the same lists, all at once, and does nothing \
         with them. Memory is that of the process (VmRSS, VmHWM) when it has said that it is ready."
            .to_owned(),
    ]
}
