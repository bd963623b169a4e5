// SPDX-License-Identifier: Apache-2.0
//! Changes of endpoints, and how soon connections show them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use proxy_tests::{api::crowd::Side, family::IpFamily};

use super::{endpoints, stage::Stage, usage};
use crate::{
    bench::{
        rounds::{Case, Rounds, Sample},
        setup::Setup,
    },
    progress::Part,
    statistics::real,
};

/// How many changes there are in each round and family, and in a hurry.
const CHANGES: usize = 30;
const FEW_CHANGES: usize = 10;

/// How far it is from one Service to the next that is changed: a prime that is no part of their
/// number, so that all have their turn.
const STRIDE: u32 = 7919;

/// For how long nothing is changed between two changes: longer than the agent works on one.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the client waits between two connections: or it would take the processor from the agent,
/// where there are few.
const REST: Duration = Duration::from_micros(100);
/// How long a connection to a Service, which always has endpoints, may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a change may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The places of what is measured of a round: the processor time of a change, what is resident
/// afterwards, and then of each change how long it took since it was sent, and since it was made.
const WORK: usize = 0;
const RESIDENT: usize = 1;
const SINCE_SENT: usize = 2;

/// What was measured.
pub(super) struct Changes {
    /// How many rounds there are.
    pub(super) rounds: usize,
    /// How many rounds others disturbed.
    pub(super) dropped: usize,
    /// In the order of the families.
    pub(super) families: Vec<Changed>,
    /// The most that was resident of the agent after a family's changes, in MiB, in each round.
    pub(super) resident: Vec<f64>,
}

/// What was measured in a family.
pub(super) struct Changed {
    /// How long after it was sent each change was seen, in milliseconds.
    pub(super) since_sent: Vec<f64>,
    /// How long after it was made, in milliseconds.
    pub(super) since_made: Vec<f64>,
    /// The agent's processor time for a change, in microseconds, in each round.
    pub(super) work: Vec<f64>,
}

/// Changes endpoints of Services, one after the other.
///
/// # Errors
///
/// If a change is not seen.
pub(super) fn measure(stage: &Stage<'_>, setup: &Setup) -> Result<Changes> {
    let services = stage.crowd.services;
    let windows = setup.plan.rounds * IpFamily::ALL.len();
    let part = Part::new(format_args!("changes among {services} Services"), windows);
    let awake = setup.keep_awake()?;
    let count = if setup.quick { FEW_CHANGES } else { CHANGES };
    let case = |family: IpFamily| {
        let mut walk = Walk { stage, family, next: 0, sides: HashMap::new() };
        Case::new(format!("changes, {family}"), move || walk.round(count))
    };
    let rounds = setup.plan.run(&setup.meter, &part, &mut IpFamily::ALL.map(case))?;
    awake.stop()?;
    let families = || 0..IpFamily::ALL.len();
    let mut resident = vec![0.0; rounds.count()];
    for case in families() {
        for (most, value) in resident.iter_mut().zip(rounds.values(case, RESIDENT)) {
            *most = value.max(*most);
        }
    }
    Ok(Changes {
        rounds: rounds.count(),
        dropped: rounds.dropped,
        families: families().map(|case| Changed::of(&rounds, case, count)).collect(),
        resident,
    })
}

impl Changed {
    fn of(rounds: &Rounds, case: usize, count: usize) -> Self {
        let all = |first| (first..first + count).flat_map(|at| rounds.values(case, at)).collect();
        Self {
            since_sent: all(SINCE_SENT),
            since_made: all(SINCE_SENT + count),
            work: rounds.values(case, WORK),
        }
    }
}

/// Walks over the Services, and changes one after the other.
struct Walk<'a> {
    stage: &'a Stage<'a>,
    family: IpFamily,
    next: u32,
    /// Where the endpoints of those are that have been changed.
    sides: HashMap<u32, Side>,
}

impl Walk<'_> {
    /// So many changes.
    fn round(&mut self, count: usize) -> Result<Sample> {
        let before = usage::processor_time(&self.stage.agent)?;
        let (mut since_sent, mut since_made) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let Change { made, sent, seen } = self.change()?;
            ensure!(made <= sent && sent <= seen, "a change was seen before it was sent");
            since_sent.push((seen - sent).as_secs_f64() * 1e3);
            since_made.push((seen - made).as_secs_f64() * 1e3);
            thread::sleep(PAUSE);
        }
        let after = usage::processor_time(&self.stage.agent)?;
        let work = after.saturating_sub(before).as_secs_f64() * 1e6;
        let mut values = vec![work / real(count), self.stage.memory()?.resident];
        values.extend(since_sent);
        values.extend(since_made);
        Ok(Sample { values, work: real(count) })
    }

    /// Sends the endpoints of the next Service to the other side.
    fn change(&mut self) -> Result<Change> {
        let Self { stage, family, .. } = *self;
        let number = self.next;
        self.next = (number + STRIDE) % stage.crowd.services;
        let side = self.sides.get(&number).copied().unwrap_or(Side::First).other();
        let _ = self.sides.insert(number, side);
        let object = stage.crowd.slice(number, family, side);
        let target = Stage::target(number, family);
        let client = stage.client();
        thread::scope(|scope| {
            let asking = scope.spawn(move || client.run(|| wait_for(side, target)));
            let made = Instant::now();
            stage.api.replace(&object)?;
            let seen = asking.join().map_err(|_| anyhow!("asking has crashed"))??;
            Ok(Change { made, sent: stage.api.sent_since(made)?, seen })
        })
    }
}

/// When a change was made, when it was written into the agent's stream, and when it was seen.
struct Change {
    made: Instant,
    sent: Instant,
    seen: Instant,
}

/// Connects again and again, until this side answers.
fn wait_for(side: Side, target: SocketAddr) -> Result<Instant> {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        let answer = endpoints::ask(target, PATIENCE);
        if answer.with_context(|| format!("connecting to {target}"))? == side {
            return Ok(Instant::now());
        }
        thread::sleep(REST);
    }
    bail!("{target}: a change is not seen within {LIMIT:?}")
}
