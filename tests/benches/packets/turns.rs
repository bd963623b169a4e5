// SPDX-License-Identifier: Apache-2.0

//! Programs that take turns, so that what else the machine does meets all of them.

use anyhow::{Result, ensure};

use crate::Args;
use crate::figures::{Figure, Figures};
use crate::measure::Run;

/// For how many rounds each wanted one is tried.
const ATTEMPTS: usize = 10;

/// Programs with the same packets.
pub(crate) trait Contest {
    /// How many there are.
    fn programs(&self) -> usize;

    /// Whether the first does nothing, and says what of the time is not a program's own.
    fn is_net(&self) -> bool {
        true
    }

    /// Runs one.
    fn turn(&mut self, number: usize) -> Result<Run>;

    /// What one has taken for a packet in each round, as it is told.
    fn figure(&self, number: usize, nanoseconds: Vec<f64>) -> Figure;
}

/// Measures a scenario: in each round all programs of all contests, in an order that changes.
pub(crate) fn measure(
    args: &Args,
    scenario: &'static str,
    contests: &mut [Box<dyn Contest + '_>],
    figures: &mut Figures,
) -> Result<()> {
    let turns: Vec<(usize, usize)> = { contests.iter().enumerate() }
        .flat_map(|(contest, it)| (0..it.programs()).map(move |number| (contest, number)))
        .collect();
    let mut values: Vec<_> =
        contests.iter().map(|contest| vec![Vec::new(); contest.programs()]).collect();
    let mut rounds = 0;
    for round in 0..ATTEMPTS * args.rounds {
        if rounds == args.rounds {
            break;
        }
        let mut raw: Vec<_> =
            contests.iter().map(|contest| vec![0.0; contest.programs()]).collect();
        let mut disturbed = 0.0_f64;
        for turn in 0..turns.len() {
            let (contest, number) = turns[(round + turn) % turns.len()];
            let run = contests[contest].turn(number)?;
            raw[contest][number] = run.nanoseconds;
            disturbed = disturbed.max(run.disturbed);
        }
        if disturbed > args.tolerate {
            *figures.dropped.entry(scenario).or_default() += 1;
            continue;
        }
        rounds += 1;
        for (contest, (values, raw)) in contests.iter().zip(values.iter_mut().zip(&raw)) {
            let others = if contest.is_net() { raw[0] } else { 0.0 };
            for (values, own) in values.iter_mut().zip(raw) {
                values.push(own - others);
            }
        }
    }
    ensure!(rounds == args.rounds, "{scenario}: others had the processor all the time");
    for (contest, values) in contests.iter().zip(values) {
        let first = usize::from(contest.is_net());
        for (number, nanoseconds) in values.into_iter().enumerate().skip(first) {
            figures.add(contest.figure(number, nanoseconds));
        }
    }
    Ok(())
}
