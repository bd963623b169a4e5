// SPDX-License-Identifier: Apache-2.0
//! Cases measured in turns, so that what else the machine does meets all of them.
//!
//! Each round measures each case once, in an order that changes from round to round. Cases are
//! compared within a round only. A round in which others took too much of the machine is dropped
//! and repeated.

use anyhow::{Context as _, Result};

use super::load::{Load, Meter};
use crate::{progress::Part, report};

/// For how many rounds at most each wanted one is tried.
const ATTEMPTS: usize = 3;

/// What a case did in its window.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// What was measured; the same quantities, in the same order, for all cases.
    pub(crate) values: Vec<f64>,
    /// How much work was done, for [`Rounds::per_cpu_second`].
    pub(crate) work: f64,
}

/// Something that is measured once in each round.
pub(crate) struct Case<'a> {
    /// Its name, as it is shown.
    pub(crate) name: String,
    measure: Box<dyn FnMut() -> Result<Sample> + 'a>,
    watch: Box<Watch<'a>>,
}

/// Looks at a window: before it, and then at what was done in it.
type Watch<'a> = dyn FnMut(Option<&Sample>) -> Result<()> + 'a;

impl<'a> Case<'a> {
    /// A case that `measure` measures, in a short window.
    pub(crate) fn new(
        name: impl Into<String>,
        measure: impl FnMut() -> Result<Sample> + 'a,
    ) -> Self {
        Self { name: name.into(), measure: Box::new(measure), watch: Box::new(|_| Ok(())) }
    }

    /// With one who looks at each window, in time that is not measured: before it, and then at what
    /// was done in it.
    pub(crate) fn watched(mut self, watch: impl FnMut(Option<&Sample>) -> Result<()> + 'a) -> Self {
        self.watch = Box::new(watch);
        self
    }

    /// Measures it once.
    fn window(&mut self, meter: &Meter) -> Result<(Sample, Load)> {
        (self.watch)(None)?;
        let mark = meter.start()?;
        let sample = (self.measure)()?;
        let load = meter.end(&mark)?;
        (self.watch)(Some(&sample))?;
        Ok((sample, load))
    }
}

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// How many rounds are wanted.
    pub(crate) rounds: usize,
    /// The part of the machine that others may have in a round.
    pub(crate) tolerated: f64,
}

/// What was measured, by round and case.
pub(crate) struct Rounds {
    windows: Vec<Vec<(Sample, Load)>>,
    /// How many rounds others disturbed.
    pub(crate) dropped: usize,
}

impl Plan {
    /// Measures `cases`, until there are rounds enough or too many were disturbed: then there are
    /// fewer than were wanted. `part` goes on by a step for each case of each wanted round.
    ///
    /// # Errors
    ///
    /// If a case fails.
    pub(crate) fn run(self, meter: &Meter, part: &Part, cases: &mut [Case<'_>]) -> Result<Rounds> {
        let mut rounds = Rounds { windows: Vec::new(), dropped: 0 };
        for attempt in 0..self.rounds * ATTEMPTS {
            let number = rounds.windows.len() + 1;
            if number > self.rounds {
                break;
            }
            let mut windows: Vec<_> = cases.iter().map(|_| None).collect();
            for place in order(cases.len(), attempt) {
                let case = &mut cases[place];
                part.on(format_args!("{}, round {number} of {}", case.name, self.rounds));
                let window = case.window(meter);
                windows[place] = Some(window.with_context(|| case.name.clone())?);
            }
            let windows: Vec<_> = windows.into_iter().flatten().collect();
            if is_disturbed(windows.iter().map(|(_, load)| *load), self.tolerated) {
                rounds.dropped += 1;
            } else {
                for _ in cases.iter() {
                    part.done();
                }
                rounds.windows.push(windows);
            }
        }
        if rounds.windows.len() < self.rounds {
            report::note(format_args!(
                "only {} of {} rounds were undisturbed: the machine is busy",
                rounds.windows.len(),
                self.rounds,
            ));
        }
        Ok(rounds)
    }
}

/// The order of so many cases: each is at each place twice in twice as many rounds, and every other
/// round goes backwards, so that none always has the same one before it.
pub(crate) fn order(cases: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..cases).map(move |turn| {
        let turn = if round.is_multiple_of(2) { turn } else { cases - 1 - turn };
        (turn + round / 2) % cases
    })
}

/// Whether others had too much of the machine, in all windows of a round together or in one.
fn is_disturbed(windows: impl Iterator<Item = Load> + Clone, tolerated: f64) -> bool {
    windows.clone().any(|load| load.is_disturbed(tolerated))
        || windows.sum::<Load>().is_disturbed(tolerated)
}

impl Rounds {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.windows.len()
    }

    /// A quantity of a case in each round.
    pub(crate) fn values(&self, case: usize, quantity: usize) -> Vec<f64> {
        self.windows.iter().map(|round| round[case].0.values[quantity]).collect()
    }

    /// A case's work by second of a processor, in each round.
    pub(crate) fn per_cpu_second(&self, case: usize) -> Vec<f64> {
        self.windows.iter().map(|round| round[case].0.work / round[case].1.own).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Load, is_disturbed, order};

    #[test]
    fn each_case_is_at_each_place() {
        for cases in 1..8 {
            let orders: Vec<Vec<_>> =
                (0..2 * cases).map(|round| order(cases, round).collect()).collect();
            for place in 0..cases {
                let met: BTreeSet<_> = orders.iter().map(|order| order[place]).collect();
                assert_eq!(met.len(), cases, "{cases} cases, place {place}");
            }
            assert!(orders.iter().all(|o| o.iter().collect::<BTreeSet<_>>().len() == cases));
        }
    }

    #[test]
    fn rounds_are_judged_as_a_whole_and_by_window() {
        let window = |foreign| Load { capacity: 2.0, foreign, own: 1.0 };
        assert!(!is_disturbed([window(0.11); 1].into_iter(), 0.05));
        assert!(is_disturbed([window(0.11); 10].into_iter(), 0.05));
        assert!(is_disturbed([window(0.0), window(0.2), window(0.0)].into_iter(), 0.05));
    }
}
