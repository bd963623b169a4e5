// SPDX-License-Identifier: Apache-2.0
//! The section on single packets: nanoseconds of each compiled program, beside floors.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use proxy_tests::{family::IpFamily, scratch::Scratch};
use serde::Deserialize;

use super::{
    report::{Chart, Figure, Section, Wanted},
    setup::Setup,
};
use crate::{
    bpf,
    process::{Run as _, command},
    report::step,
    test::built::{PACKAGES, built},
    workspace,
};

/// The benchmark's name.
const NAME: &str = "packets";
/// How many flows there are, and in a hurry.
const FLOWS: &str = "1,4096,65536,1048576";
const FEW_FLOWS: &str = "1,4096";
/// Packets in each turn, and in a hurry.
const PACKETS: &str = "200000";
const FEW_PACKETS: &str = "20000";

/// The scenarios of a packet of no Service, and what is wanted of both programs over empty ones.
const NO_SERVICE: [&str; 2] = ["no Service, sent", "no Service, received"];
const BOTH: f64 = 100.0;

/// What the benchmark says.
#[derive(Deserialize)]
struct Measured {
    /// Rounds that others disturbed, by scenario; none of those that are not named.
    dropped: BTreeMap<String, usize>,
    figures: Vec<Timed>,
}

/// One program in one scenario.
#[derive(Deserialize)]
struct Timed {
    family: String,
    scenario: String,
    flows: u64,
    program: String,
    floor: Option<String>,
    nanoseconds: Vec<f64>,
}

impl Measured {
    /// How many rounds of these scenarios were disturbed.
    fn dropped(&self, scenarios: &[&str]) -> usize {
        scenarios.iter().filter_map(|scenario| self.dropped.get(*scenario)).sum()
    }
}

/// Measures all programs.
///
/// # Errors
///
/// If a program does not do what it is measured for.
pub(super) fn run(setup: &Setup) -> Result<Section> {
    // The programs are those of the source, whichever agent other sections measure.
    let _: PathBuf = bpf::build()?;
    let program = built(&[&["build", "--bench", NAME], &PACKAGES[..]].concat(), NAME)?;
    let scratch = Scratch::new("bench")?;
    let json = scratch.path().join("packets.json");
    let (flows, packets) = if setup.quick { (FEW_FLOWS, FEW_PACKETS) } else { (FLOWS, PACKETS) };
    step(format_args!("nanoseconds a packet, at {flows} flows"));
    command(program)
        .arg("--gauge")
        .arg(workspace::gauge_object())
        .args(["--rounds", &setup.plan.rounds.to_string()])
        .args(["--flows", flows, "--packets", packets])
        .arg("--json")
        .arg(&json)
        .run()?;
    let measured = fs::read_to_string(&json)?;
    let measured: Measured =
        serde_json::from_str(&measured).context("reading what the benchmark says")?;
    let mut scenarios: Vec<&str> = Vec::new();
    for figure in &measured.figures {
        if !scenarios.contains(&figure.scenario.as_str()) {
            scenarios.push(&figure.scenario);
        }
    }
    let mut charts =
        scenarios.iter().map(|scenario| chart(&measured, scenario)).collect::<Result<Vec<_>>>()?;
    charts.push(no_service(&measured)?);
    Ok(Section { title: "A packet in the programs".to_owned(), notes: notes(), charts })
}

fn notes() -> Vec<String> {
    vec![
        "Processor time of a program under BPF_PROG_TEST_RUN. A driver writes each packet anew, of \
         another client, and goes on into the program; what it takes with a program that does nothing \
         is subtracted within the round. All flows have been seen once before. Rounds in which the \
         thread was not alone on its processor are repeated."
            .to_owned(),
        "A floor is the least that a program can do for the same result: the same parsing, look-ups and \
         inserts in tables of the same kinds and sizes, one rewrite, and nothing else. `plain` calls a \
         helper for each part of the headers that changes, `follow` as few as that takes. `open` looks up \
         all that a new flow must ask where others write to the tables: the frontend twice, the device, \
         and whose the replies are; `alone` does not."
            .to_owned(),
        "In the driver, packets are of clients outside, to backends elsewhere: both ends are translated \
         at once, and the frame leaves by another device. `stamp_xdp` writes the time into the flow and \
         counts twice, `follow_xdp` does not; neither asks for a route, which the proxy does for each flow \
         once a second, and for each new one."
            .to_owned(),
    ]
}

/// The figures of a scenario.
fn chart(measured: &Measured, scenario: &str) -> Result<Chart> {
    let of_scenario = || measured.figures.iter().filter(move |figure| figure.scenario == scenario);
    let mut figures = Vec::new();
    for own in of_scenario() {
        let mut figure =
            Figure::new(&own.program, family(own)?, own.nanoseconds.clone())?.at(own.flows);
        if let Some(floor) = &own.floor {
            let floor = of_scenario()
                .find(|other| {
                    other.program == *floor
                        && (&other.family, other.flows) == (&own.family, own.flows)
                })
                .context("a floor was not measured")?;
            let wanted = wanted(scenario, own.flows);
            figure = figure.beside(&floor.program, &floor.nanoseconds, wanted);
            if let Some(wanted) = wanted_by_itself(scenario, own.flows, family(own)?) {
                figure = figure.wanted(wanted);
            }
        }
        figures.push(figure);
    }
    figures.sort_by(|one, other| (&one.case, &one.family).cmp(&(&other.case, &other.family)));
    Ok(in_nanoseconds(format!("A packet: {scenario}"), measured.dropped(&[scenario]), figures))
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
        let figure = Figure::new("ingress and egress", family(sent)?, both)?.at(sent.flows);
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

fn family(figure: &Timed) -> Result<IpFamily> {
    IpFamily::ALL
        .into_iter()
        .find(|family| family.name() == figure.family)
        .context("a family that there is not")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Measured, NO_SERVICE, chart, no_service};

    /// What the benchmark says of packets of no Service that each take a program so long.
    fn measured(nanoseconds: f64) -> Measured {
        let values = &[nanoseconds; 15];
        let figures = ["IPv4", "IPv6"].into_iter().flat_map(|family| {
            [1, 4096, 65_536, 1_048_576].into_iter().flat_map(move |flows| {
                NO_SERVICE.into_iter().flat_map(move |scenario| {
                    [("own", Some("miss")), ("miss", None)].map(|(program, floor)| {
                        json!({
                            "family": family, "scenario": scenario, "flows": flows,
                            "program": program, "floor": floor, "nanoseconds": values,
                        })
                    })
                })
            })
        });
        let figures: Vec<_> = figures.collect();
        let [sent, received] = NO_SERVICE;
        let dropped = json!({ sent: 2, received: 3, "new flow": 90 });
        serde_json::from_value(json!({ "dropped": dropped, "figures": figures })).unwrap()
    }

    #[test]
    fn what_is_wanted_of_packets_of_no_service_is_wanted_at_all_sizes() {
        for (nanoseconds, reached) in [(50.0, true), (50.1, false)] {
            let chart = no_service(&measured(nanoseconds)).unwrap();
            assert_eq!(chart.figures.len(), 8);
            let goals: Vec<_> = { chart.figures.iter() }
                .map(|figure| figure.goal.as_ref().is_some_and(|goal| goal.reached))
                .collect();
            assert_eq!(goals, [reached; 8]);
        }
    }

    #[test]
    fn rounds_are_dropped_of_a_scenario() {
        let measured = measured(1.0);
        assert_eq!(chart(&measured, NO_SERVICE[0]).unwrap().dropped, 2);
        assert_eq!(no_service(&measured).unwrap().dropped, 5);
        assert_eq!(chart(&measured, "established request").unwrap().dropped, 0);
    }
}
