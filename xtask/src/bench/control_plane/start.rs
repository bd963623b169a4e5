// SPDX-License-Identifier: Apache-2.0
//! Starts of the agent, each after a bare client has read the same lists.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use proxy_tests::family::IpFamily;

use super::{endpoints, stage::Stage};
use crate::{
    bench::{
        rounds::{Case, Sample},
        setup::Setup,
    },
    progress::Part,
};

/// For how long a connection may take while nobody serves.
const PATIENCE: Duration = Duration::from_millis(2);

/// What was measured, in each round.
pub(super) struct Starts {
    /// How many rounds there are.
    pub(super) rounds: usize,
    /// How many rounds others disturbed.
    pub(super) dropped: usize,
    /// How long a bare client took for the lists, in seconds.
    pub(super) lists: Vec<f64>,
    /// How long it took from the agent's start to a connection, in seconds, in the order of the
    /// families.
    pub(super) served: [Vec<f64>; 2],
    /// What was resident then, in MiB.
    pub(super) resident: Vec<f64>,
    /// The most that was resident until then, in MiB.
    pub(super) peak: Vec<f64>,
}

/// Starts the agent again and again.
///
/// # Errors
///
/// If it does not serve.
pub(super) fn measure(stage: &mut Stage<'_>, setup: &Setup) -> Result<Starts> {
    let services = stage.crowd.services;
    let part = Part::new(format_args!("starts with {services} Services"), setup.plan.rounds);
    let case = Case::new("start", || once(stage));
    let rounds = setup.plan.run(&setup.meter, &part, &mut [case])?;
    let [lists, v4, v6, resident, peak] = [0, 1, 2, 3, 4].map(|at| rounds.values(0, at));
    let (count, dropped) = (rounds.count(), rounds.dropped);
    Ok(Starts { rounds: count, dropped, lists, served: [v4, v6], resident, peak })
}

/// The quantities of [`Starts`], in its order.
fn once(stage: &mut Stage<'_>) -> Result<Sample> {
    let status = stage.agent.stop()?;
    ensure!(status.success(), "the agent ended with {status}");
    let lists = stage.time_lists()?;
    let last = stage.crowd.services - 1;
    let client = stage.client();
    let ready = AtomicBool::new(false);
    let (begun, served) = thread::scope(|scope| {
        let askers = IpFamily::ALL.map(|family| {
            let ready = &ready;
            scope.spawn(move || client.run(|| first_answer(last, family, ready)))
        });
        let begun = Instant::now();
        let started = stage.agent.start();
        ready.store(true, Ordering::Relaxed);
        let served = askers.map(|asker| asker.join().map_err(|_| anyhow!("asking has crashed"))?);
        started?;
        anyhow::Ok((begun, served))
    })?;
    let mut values = vec![lists];
    for served in served {
        let served = served?;
        let taken = served.checked_duration_since(begun).context("it was served before")?;
        values.push(taken.as_secs_f64());
    }
    let memory = stage.memory()?;
    values.extend([memory.resident, memory.peak]);
    Ok(Sample { values, work: 1.0 })
}

/// When a Service first answers; it must, soon after the agent is ready.
fn first_answer(service: u32, family: IpFamily, ready: &AtomicBool) -> Result<Instant> {
    let target = Stage::target(service, family);
    loop {
        let is_ready = ready.load(Ordering::Relaxed);
        match endpoints::ask(target, PATIENCE) {
            Ok(_) => return Ok(Instant::now()),
            Err(error) if is_ready => {
                return endpoints::ask(target, Duration::from_secs(1))
                    .map(|_| Instant::now())
                    .with_context(|| format!("{target} does not answer ({error})"));
            }
            Err(_) => thread::sleep(PATIENCE),
        }
    }
}
