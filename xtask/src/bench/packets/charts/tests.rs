// SPDX-License-Identifier: Apache-2.0

use serde_json::json;

use super::{Chart, Figure, Measured, NO_SERVICE, chart, growth, no_service, sent};

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

/// What the benchmark says of a scenario: how long the proxy's program and its floor take in a family, at a
/// number of flows and perhaps of frontends.
fn of_driver(scenario: &str, cases: &[(&str, u64, Option<u64>, [f64; 2])]) -> Measured {
    let figures = cases.iter().flat_map(|(family, flows, frontends, [own, floor])| {
        [("own", Some("floor"), own), ("floor", None, floor)].map(|(program, floor, one)| {
            let values = &[*one; 15];
            json!({
                "family": family, "scenario": scenario, "flows": flows, "frontends": frontends,
                "program": program, "floor": floor, "nanoseconds": values,
            })
        })
    });
    let figures: Vec<_> = figures.collect();
    serde_json::from_value(json!({ "dropped": {}, "figures": figures })).unwrap()
}

/// Whether the goals of ratios to something are reached, by family.
fn goals<'a>(chart: &'a Chart, to: &str) -> Vec<(&'a str, bool)> {
    let goal = |figure: &'a Figure| {
        let ratio = figure.ratios.iter().find(|ratio| ratio.to == to)?;
        Some((figure.family.as_str(), ratio.goal.as_ref()?.reached))
    };
    chart.figures.iter().filter_map(goal).collect()
}

#[test]
fn what_is_wanted_of_ipv6_is_wanted_beside_ipv4() {
    let cases = [("IPv4", 1, None, [50.0, 40.0]), ("IPv6", 1, None, [60.1, 40.0])];
    for (scenario, wanted) in [
        ("in the driver, request", vec![("IPv6", false)]),
        ("in the driver, new flow", vec![]),
        ("established request", vec![]),
    ] {
        let chart = chart(&of_driver(scenario, &cases), scenario).unwrap();
        assert_eq!(goals(&chart, "IPv4"), wanted, "{scenario}");
    }
}

#[test]
fn growth_is_that_beyond_the_floors() {
    let scenario = "in the driver, new flow to any frontend";
    let measured = of_driver(
        scenario,
        &[
            ("IPv4", 1 << 17, Some(10), [100.0, 100.0]),
            ("IPv4", 1 << 17, Some(100_000), [219.0, 200.0]),
            ("IPv6", 1 << 17, Some(10), [100.0, 100.0]),
            ("IPv6", 1 << 17, Some(100_000), [221.0, 200.0]),
        ],
    );
    let growth = growth(&measured, scenario).unwrap();
    assert_eq!(goals(&growth, "10 frontends"), [("IPv4", true), ("IPv6", false)]);
    assert_eq!(chart(&measured, scenario).unwrap().axis.as_deref(), Some("frontends"));
}

#[test]
fn what_is_sent_is_told_by_second() {
    let scenario = "sent from the driver, request";
    let sent = sent(&of_driver(scenario, &[("IPv4", 1, None, [200.0, 100.0])]), scenario);
    let medians: Vec<_> =
        sent.unwrap().figures.iter().map(|figure| figure.estimate.median).collect();
    assert_eq!(medians, [1e7, 5e6]);
}

#[test]
fn rounds_are_dropped_of_a_scenario() {
    let measured = measured(1.0);
    assert_eq!(chart(&measured, NO_SERVICE[0]).unwrap().dropped, 2);
    assert_eq!(no_service(&measured).unwrap().dropped, 5);
    assert_eq!(chart(&measured, "established request").unwrap().dropped, 0);
}
