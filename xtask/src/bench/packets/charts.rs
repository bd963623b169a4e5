// SPDX-License-Identifier: Apache-2.0
//! What the benchmark of single packets says, as charts.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use proxy_tests::family::IpFamily;

use super::measured::{Measured, Timed};
use crate::bench::report::{Chart, Figure, Wanted};

/// The scenarios of a packet of no Service, and what is wanted of both programs over empty ones.
const NO_SERVICE: [&str; 2] = ["no Service, sent", "no Service, received"];
const BOTH: f64 = 100.0;

/// What the names of scenarios in drivers, and of frames that are really sent, begin with.
const IN_DRIVER: &str = "in the driver";
const SENT: &str = "sent from the driver";

/// Those of them whose packets ask for no route, and what is wanted of IPv6 beside IPv4.
const ASKS_NO_ROUTE: [&str; 2] = ["in the driver, request", "in the driver, reply"];
const BESIDE_V4: Wanted = Wanted::AtMost(1.2);

/// What the multiple of the floor is to be with so many frontends, beside that with the fewest.
const MANY_FRONTENDS: u64 = super::FRONTENDS[1] as u64;
const GROWTH: Wanted = Wanted::AtMost(1.1);

/// All charts.
pub(super) fn all(measured: &Measured) -> Result<Vec<Chart>> {
    let mut scenarios: Vec<&str> = Vec::new();
    for figure in &measured.figures {
        if !scenarios.contains(&figure.scenario.as_str()) {
            scenarios.push(&figure.scenario);
        }
    }
    let mut charts = Vec::new();
    for scenario in scenarios {
        let by_frontends = measured.of_scenario(scenario).any(|figure| figure.frontends.is_some());
        if scenario.starts_with(SENT) {
            charts.push(sent(measured, scenario)?);
            continue;
        }
        charts.push(chart(measured, scenario)?);
        if by_frontends {
            charts.push(growth(measured, scenario)?);
        }
    }
    charts.push(no_service(measured)?);
    Ok(charts)
}

/// The figures of a scenario.
fn chart(measured: &Measured, scenario: &str) -> Result<Chart> {
    let mut figures = Vec::new();
    for own in measured.of_scenario(scenario) {
        let family = own.family()?;
        let mut figure = Figure::new(&own.program, family, own.nanoseconds.clone())?.at(own.size());
        if let Some(floor) = measured.floor(own)? {
            let wanted = wanted(scenario, own.flows);
            figure = figure.beside(&floor.program, &floor.nanoseconds, wanted);
            if let Some(wanted) = wanted_by_itself(scenario, own.flows, family) {
                figure = figure.wanted(wanted);
            }
        }
        if let (IpFamily::V6, Some(v4)) = (family, in_v4(measured, own)) {
            let wanted = ASKS_NO_ROUTE.contains(&scenario).then_some(BESIDE_V4);
            figure = figure.beside(IpFamily::V4.name(), &v4.nanoseconds, wanted);
        }
        figures.push(figure);
    }
    figures.sort_by(|one, other| (&one.case, &one.family).cmp(&(&other.case, &other.family)));
    Ok(Chart {
        axis: Some(axis(measured, scenario).to_owned()),
        ..in_nanoseconds(format!("A packet: {scenario}"), measured.dropped(&[scenario]), figures)
    })
}

/// The same of the proxy in IPv4, of a program in a driver: its families were measured in the same rounds.
fn in_v4<'a>(measured: &'a Measured, own: &Timed) -> Option<&'a Timed> {
    let is_asked = own.is_own() && own.scenario.starts_with(IN_DRIVER);
    let mut others = measured.of_scenario(&own.scenario).filter(|_| is_asked);
    others.find(|other| {
        other.family == IpFamily::V4.name()
            && (&other.program, other.size()) == (&own.program, own.size())
    })
}

/// What the sizes of a scenario count.
fn axis(measured: &Measured, scenario: &str) -> &'static str {
    let by_frontends = measured.of_scenario(scenario).any(|figure| figure.frontends.is_some());
    if by_frontends { "frontends" } else { "flows" }
}

/// The proxy's program as a multiple of its floor, and how that grows with the number of frontends.
fn growth(measured: &Measured, scenario: &str) -> Result<Chart> {
    let mut figures = Vec::new();
    let mut fewest: BTreeMap<&str, (u64, Vec<f64>)> = BTreeMap::new();
    for own in measured.of_scenario(scenario) {
        let Some(floor) = measured.floor(own)? else { continue };
        let both = own.nanoseconds.iter().zip(&floor.nanoseconds);
        let multiples: Vec<f64> = both.map(|(own, floor)| own / floor).collect();
        let case = format!("{} / {}", own.program, floor.program);
        let figure = Figure::new(&case, own.family()?, multiples.clone())?.at(own.size());
        let Some((size, at_fewest)) = fewest.get(own.family.as_str()) else {
            let _ = fewest.insert(&own.family, (own.size(), multiples));
            figures.push(figure);
            continue;
        };
        let wanted = (own.size() == MANY_FRONTENDS).then_some(GROWTH);
        figures.push(figure.beside(&format!("{size} frontends"), at_fewest, wanted));
    }
    let title = format!("A packet: {scenario}, beside the floor");
    Ok(Chart {
        unit: "times".to_owned(),
        digits: 2,
        axis: Some("frontends".to_owned()),
        ..in_nanoseconds(title, measured.dropped(&[scenario]), figures)
    })
}

/// How many frames are sent in a second.
fn sent(measured: &Measured, scenario: &str) -> Result<Chart> {
    let rate = |figure: &Timed| figure.nanoseconds.iter().map(|one| 1e9 / one).collect::<Vec<_>>();
    let mut figures = Vec::new();
    for own in measured.of_scenario(scenario) {
        let mut figure = Figure::new(&own.program, own.family()?, rate(own))?.at(own.size());
        if let Some(floor) = measured.floor(own)? {
            figure = figure.beside(&floor.program, &rate(floor), None);
        }
        figures.push(figure);
    }
    figures.sort_by(|one, other| (&one.case, &one.family).cmp(&(&other.case, &other.family)));
    Ok(Chart {
        unit: "frames/s".to_owned(),
        ..in_nanoseconds(format!("Frames {scenario}"), measured.dropped(&[scenario]), figures)
    })
}

/// Both programs of a packet that is of no Service.
fn no_service(measured: &Measured) -> Result<Chart> {
    let [sent, received] = NO_SERVICE;
    let of_scenario = |scenario: &'static str| {
        measured
            .figures
            .iter()
            .filter(move |figure| figure.scenario == scenario && figure.floor.is_some())
    };
    let mut figures = Vec::new();
    for sent in of_scenario(sent) {
        let received = of_scenario(received)
            .find(|other| (&other.family, other.flows) == (&sent.family, sent.flows))
            .context("the other program was not measured")?;
        let both = sent.nanoseconds.iter().zip(&received.nanoseconds);
        let both = both.map(|(sent, received)| sent + received).collect();
        let figure = Figure::new("ingress and egress", sent.family()?, both)?.at(sent.flows);
        figures.push(figure.wanted(Wanted::AtMost(BOTH)));
    }
    figures.sort_by(|one, other| one.family.cmp(&other.family));
    let title = "A packet: no Service, both programs".to_owned();
    Ok(in_nanoseconds(title, measured.dropped(&NO_SERVICE), figures))
}

fn in_nanoseconds(title: String, dropped: usize, figures: Vec<Figure>) -> Chart {
    Chart {
        title,
        unit: "ns".to_owned(),
        digits: 0,
        axis: Some("flows".to_owned()),
        in_summary: true,
        rounds: figures.iter().map(|figure| figure.values.len()).min().unwrap_or_default(),
        dropped,
        figures,
    }
}

/// What is wanted beside the floor.
fn wanted(scenario: &str, flows: u64) -> Option<Wanted> {
    match scenario {
        "established request" if flows <= 1 << 16 => Some(Wanted::AtMost(1.2)),
        "new flow" | "in the driver, new flow" => Some(Wanted::AtMost(1.25)),
        "in the driver, request" if flows == 1 << 16 => Some(Wanted::AtMost(1.25)),
        _ => None,
    }
}

/// What is wanted of the proxy's own figure, in nanoseconds.
fn wanted_by_itself(scenario: &str, flows: u64, family: IpFamily) -> Option<Wanted> {
    match (scenario, flows, family) {
        ("in the driver, request", 1, IpFamily::V4) => Some(Wanted::AtMost(60.0)),
        ("in the driver, request", 1, IpFamily::V6) => Some(Wanted::AtMost(70.0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
