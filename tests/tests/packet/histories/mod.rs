// SPDX-License-Identifier: Apache-2.0

//! Long histories of packets and of changes between them: what becomes of each packet is judged by
//! [`Model`](proxy_tests::model::Model), which shares nothing with the programs. A difference is
//! reduced to a short history, to be kept as a case (see CONTRIBUTING.md).

mod age;
mod frame;
mod generate;
mod kept;
mod plan;
mod player;
mod reduce;
mod simpler;
mod step;
mod uplink;

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use proxy_tests::both_families;
use proxy_tests::model::{Rule, Strays};
use serde::{Deserialize, Serialize};

use self::player::{Difference, Tally, play};
use self::reduce::reduce;
use self::simpler::simpler;
use self::step::Step;
use self::uplink::Uplink;
use crate::rig::{Rig, Tabled};

both_families!(generated, at_an_uplink, a_wrong_rule_is_found_and_the_history_reduced);

/// Packets that are judged in each family: half of them of the fixed seed, half of a fresh one.
const PACKETS: usize = 152_000;
/// Steps of a history.
const LENGTH: usize = 600;
/// As often each rule must have been used.
const LEAST: usize = 50;
/// How long a failing history may be reduced.
const PATIENCE: Duration = Duration::from_mins(1);
/// A history takes a fraction of a second. If the machine stands still for so long, flows may come
/// near their time-outs, where the model cannot tell; then it is played again.
const STALL: Duration = Duration::from_secs(1);
/// As often a shorter history is tried: which backends it gets is chance.
const ATTEMPTS: usize = 3;
/// What is repeated if this is set to a number.
const SEED: &str = "SIXFOUR_SEED";
/// The seed that is the same in each run.
const FIXED: u64 = 64;

/// A history with what it is about.
#[derive(Serialize, Deserialize)]
struct Case {
    what: String,
    steps: Vec<Step>,
}

/// Says something that is seen even if the test passes.
fn say(text: &str) -> Result<()> {
    Ok(writeln!(io::stderr(), "{text}")?)
}

/// The seeds of this run.
fn seeds() -> Result<Vec<u64>> {
    match env::var(SEED) {
        Ok(seed) => Ok(vec![seed.parse().with_context(|| format!("{SEED}={seed}"))?]),
        Err(_) => Ok(vec![FIXED, fastrand::u64(..)]),
    }
}

fn generated<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let total = judge(&mut rig, None, PACKETS)?;
    is_diverse(&total.rules, &Rule::ALL)
}

/// The same of clients outside and backends elsewhere, whose packets may be handled in the driver or in the stack.
fn at_an_uplink<F: Tabled>() -> Result<()> {
    Uplink::run(|rig: &mut Rig<F>, uplink| {
        let total = judge(rig, Some(uplink), PACKETS / 2)?;
        let sent = total.from_driver;
        ensure!(sent > PACKETS as u64 / 20, "only {sent} packets have left from the driver");
        is_diverse(&total.rules, &uplink::RULES)
    })
}

/// Plays histories until so many packets have been judged.
fn judge<F: Tabled>(rig: &mut Rig<F>, uplink: Option<Uplink>, packets: usize) -> Result<Tally> {
    let seeds = seeds()?;
    let mut total = Tally::default();
    for (number, seed) in (1..).zip(&seeds) {
        say(&format!("{}: histories of {SEED}={seed}", F::FAMILY))?;
        let begin = Instant::now();
        let enough = packets * number / seeds.len();
        for history in 0.. {
            if total.packets >= enough {
                break;
            }
            let steps = generate::history(fastrand::Rng::with_seed(seed ^ history).u64(..), LENGTH);
            let started = Instant::now();
            let Err(difference) = play(rig, Strays::Refuse, uplink, &steps, &mut total) else {
                continue;
            };
            let is_slow = started.elapsed() > STALL;
            let mut again = || play(rig, Strays::Refuse, uplink, &steps, &mut Tally::default());
            if is_slow && again().is_ok() {
                continue;
            }
            let (family, packets) = (F::FAMILY, total.packets);
            say(&format!("{family}: {SEED}={seed} differs after {packets} packets"))?;
            return Err(reduced(rig, (Strays::Refuse, uplink), steps, difference)?.1);
        }
        say(&format!("{}: {} packets so far, in {:?}", F::FAMILY, total.packets, begin.elapsed()))?;
    }
    ensure!(total.packets >= packets, "only {} packets were judged", total.packets);
    Ok(total)
}

/// Every way that a packet can take must have been taken.
fn is_diverse(rules: &BTreeMap<Rule, usize>, all: &[Rule]) -> Result<()> {
    for rule in all {
        let count = rules.get(rule).copied().unwrap_or_default();
        // No history asks for what a migration needs.
        ensure!(count >= LEAST || *rule == Rule::PassedStray, "{rule:?}: only {count} packets");
    }
    Ok(())
}

/// Reduces a history that differs; returns what is left, and the error to end with.
fn reduced<F: Tabled>(
    rig: &mut Rig<F>,
    (strays, uplink): (Strays, Option<Uplink>),
    mut steps: Vec<Step>,
    difference: Difference,
) -> Result<(Vec<Step>, anyhow::Error)> {
    let (mut last, until) = (difference.error, Instant::now() + PATIENCE);
    steps.truncate(difference.step + 1);
    let fails = |steps: &[Step]| {
        (0..ATTEMPTS).any(|_| match play(rig, strays, uplink, steps, &mut Tally::default()) {
            Ok(()) => false,
            Err(difference) => {
                last = difference.error;
                true
            }
        })
    };
    let steps = reduce(steps, simpler, fails, until);
    let case = Case { what: "say what this shows".to_owned(), steps };
    let text = serde_json::to_string_pretty(&case)?;
    let advice = "the programs and the model differ; keep this history (CONTRIBUTING.md)";
    Ok((case.steps, last.context(format!("{advice}:\n{text}\n"))))
}

/// A model that expects strays to pass differs from programs that refuse them; it takes two steps
/// to show it: that there is a Service, and the stray.
fn a_wrong_rule_is_found_and_the_history_reduced<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    for seed in 0..20 {
        let steps = generate::history(seed, LENGTH);
        let played = play(&mut rig, Strays::Pass, None, &steps, &mut Tally::default());
        let Err(difference) = played else { continue };
        let (steps, error) = reduced(&mut rig, (Strays::Pass, None), steps, difference)?;
        ensure!(format!("{error:#}").contains("it should pass untouched"), "{error:#}");
        ensure!(steps.len() <= 2, "{} steps are left: {steps:?}", steps.len());
        ensure!(matches!(steps.as_slice(), [Step::Serve { .. }, Step::Send(_)]), "{steps:?}");
        return Ok(());
    }
    bail!("no history found the difference")
}
