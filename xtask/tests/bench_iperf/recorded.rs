// SPDX-License-Identifier: Apache-2.0
//! What clients' pods have printed: two rounds of the command of such a pod, run between two network
//! namespaces, where the cluster IPs were translated to the addresses of the server.

use std::{collections::BTreeMap, io::Read as _};

use flate2::read::GzDecoder;
use serde_json::Value;

const LOG: &[u8] = include_bytes!("../../../tests/fixtures/iperf3/client.log.gz");

/// What begins a run; what follows are the arguments of iperf3.
const MARK: &str = "run ";

/// The reports of each run, by its arguments.
pub(crate) struct Recorded(BTreeMap<String, Vec<String>>);

impl Recorded {
    pub(crate) fn new() -> Self {
        let mut text = String::new();
        let _ = GzDecoder::new(LOG).read_to_string(&mut text).unwrap();
        let mut reports: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for part in format!("\n{text}").split(&format!("\n{MARK}")).skip(1) {
            let (run, report) = part.split_once('\n').unwrap();
            reports.entry(run.to_owned()).or_default().push(report.trim_end().to_owned());
        }
        assert_eq!(reports.len(), 12, "three works, two paths, two families");
        Self(reports)
    }

    /// What a client prints of a run in a round; rounds begin anew after the recorded ones.
    pub(crate) fn log(&self, run: &str, round: usize) -> String {
        let reports = self.0.get(run).unwrap_or_else(|| panic!("nothing is recorded of `{run}`"));
        format!("{MARK}{run}\n{}\n", reports[round % reports.len()])
    }

    /// The medians of what arrived at `target` in two rounds: Gbit/s by one stream, and by four, and
    /// datagrams a second.
    pub(crate) fn medians(&self, target: &str) -> [f64; 3] {
        self.arrived(target).map(|[one, other]| f64::midpoint(one, other))
    }

    /// The medians of what arrived at `target` in a round as a part of what arrived at `reference`.
    pub(crate) fn ratios(&self, target: &str, reference: &str) -> [f64; 3] {
        let (targets, references) = (self.arrived(target), self.arrived(reference));
        [0, 1, 2].map(|work| {
            let ratio = |round: usize| targets[work][round] / references[work][round];
            f64::midpoint(ratio(0), ratio(1))
        })
    }

    /// What arrived at `target` in each of two rounds, by each work.
    fn arrived(&self, target: &str) -> [[f64; 2]; 3] {
        ["3000", "--parallel=4", "--length=64"].map(|last| {
            let runs = self
                .0
                .iter()
                .filter(|(run, _)| run.contains(&format!(" {target} ")) && run.ends_with(last));
            let [(_, reports)] = runs.collect::<Vec<_>>()[..] else { panic!("{target} {last}") };
            let [one, other] = &reports[..] else { panic!("{target} {last}: two rounds") };
            [one, other].map(|report| arrived(report))
        })
    }
}

fn arrived(report: &str) -> f64 {
    let report: Value = serde_json::from_str(report).unwrap();
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64);
    if let Some(sent) = number("/end/sum/packets") {
        let lost = number("/end/sum/lost_packets").unwrap();
        return (sent - lost) / number("/end/sum/seconds").unwrap();
    }
    number("/end/sum_received/bits_per_second").unwrap() / 1e9
}
