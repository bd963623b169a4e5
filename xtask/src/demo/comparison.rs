// SPDX-License-Identifier: Apache-2.0
//! Something measured directly and through the Service, in turns.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_tests::family::IpFamily;

use crate::{progress::Part, statistics::quantile};

use super::{cluster::Cluster, verdict::Problems};

/// Below this part of the direct path something is broken, not slow.
const BROKEN: f64 = 0.1;

/// What to measure, on which port of the pod for measurements.
#[derive(Clone, Copy)]
pub(super) struct Quantity {
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    /// How many digits of it are shown after the point.
    pub(super) digits: usize,
    pub(super) port: u16,
    /// How often on each path.
    pub(super) rounds: usize,
    /// The part of the direct path that is to be reached.
    pub(super) goal: f64,
}

impl Quantity {
    /// How many measurements it takes in both families.
    pub(super) fn steps(self) -> usize {
        self.rounds * PATHS.len() * IpFamily::ALL.len()
    }

    /// Measures it in both families. Both paths take turns, and turns in going first: what else
    /// the machine does meets both.
    ///
    /// A measurement that fails is a problem, and ends those of its family.
    pub(super) fn compare(
        self,
        cluster: &Cluster<'_>,
        part: &Part,
        problems: &mut Problems,
        measure: impl Fn(SocketAddr) -> Result<f64>,
    ) -> Vec<Comparison> {
        let mut of_family = |family| {
            let targets = cluster.measured(family, self.port);
            let round = |number| {
                let mut values = [0.0; PATHS.len()];
                for turn in 0..PATHS.len() {
                    let path = (number + turn) % PATHS.len();
                    part.on(format_args!("{} over {family}, {}", self.what, PATHS[path]));
                    values[path] = measure(targets[path])?;
                    part.done();
                }
                anyhow::Ok(values)
            };
            let mut rounds = Vec::new();
            for number in 0..self.rounds {
                match round(number) {
                    Ok(values) => rounds.push(values),
                    Err(error) => {
                        problems.add(format!("{} over {family}: {error:#}", self.what));
                        break;
                    }
                }
            }
            let comparison = Comparison { quantity: self, family, rounds };
            if comparison.ratio(0.5) < BROKEN {
                let ratio = comparison.ratio(0.5);
                problems.add(format!("{} over {family}: {ratio:.2} of the direct path", self.what));
            }
            comparison
        };
        IpFamily::ALL.into_iter().map(&mut of_family).collect()
    }
}

/// In the order of [`Cluster::measured`].
const PATHS: [&str; 2] = ["directly", "through the ClusterIP"];

/// What was measured in one family.
pub(super) struct Comparison {
    pub(super) quantity: Quantity,
    pub(super) family: IpFamily,
    /// In each, the value of the direct path and that through the Service.
    rounds: Vec<[f64; PATHS.len()]>,
}

impl Comparison {
    /// Whether there is none. All values are no numbers then.
    pub(super) fn is_missing(&self) -> bool {
        self.rounds.is_empty()
    }

    /// The median of the direct path.
    pub(super) fn direct(&self) -> f64 {
        quantile(self.rounds.iter().map(|[direct, _]| *direct), 0.5)
    }

    /// The median through the Service.
    pub(super) fn service(&self) -> f64 {
        quantile(self.rounds.iter().map(|[_, service]| *service), 0.5)
    }

    /// A quantile of the ratios of the rounds: what slows a round down for both paths is not in
    /// it.
    pub(super) fn ratio(&self, part: f64) -> f64 {
        quantile(self.rounds.iter().map(|[direct, service]| service / direct), part)
    }

    /// Whether the goal is reached.
    pub(super) fn is_fast(&self) -> bool {
        self.ratio(0.5) >= self.quantity.goal
    }
}
