// SPDX-License-Identifier: Apache-2.0

//! Histories that once showed a difference between the programs and the model: each must not show
//! it again, in either family. CONTRIBUTING.md says how to keep one.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::model::Strays;

use super::Case;
use super::player::{Tally, play};
use crate::rig::{Rig, Tabled};

both_families!(kept_cases_differ_no_more);

/// As often each is played: which backends it gets is chance.
const TIMES: usize = 5;

/// The files in `regressions`.
macro_rules! cases {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("regressions/", $name, ".json")))),*]
    };
}

const CASES: &[(&str, &str)] = cases![
    "a-neighbours-frame-ends-no-flow",
    "a-quote-ends-with-its-error",
    "no-proof-before-a-syn-ack",
    "padding-is-no-fragment-header",
    "padding-is-no-tcp-header",
    "padding-is-no-udp-header",
    "passing-at-a-pod-is-not-passing-out",
    "the-checksum-of-a-cut-quote",
];

fn kept_cases_differ_no_more<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let mut differences = Vec::new();
    for (name, text) in CASES {
        let case: Case = serde_json::from_str(text).with_context(|| format!("reading {name}"))?;
        let mut played = (0..TIMES)
            .map(|_| play(&mut rig, Strays::Refuse, None, &case.steps, &mut Tally::default()));
        if let Some(difference) = played.find_map(Result::err) {
            let (step, error) = (difference.step, difference.error);
            differences.push(format!("{name}, step {step}: {}\n{error:#}", case.what));
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n\n"));
    Ok(())
}
