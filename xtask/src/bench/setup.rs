// SPDX-License-Identifier: Apache-2.0
//! What all sections need.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use proxy_tests::cgroup::Cgroup;

use super::{
    kube_proxy,
    load::Meter,
    processors::{Processors, Spinners},
    rounds::Plan,
    work::Work,
};
use crate::{
    bpf,
    process::is_root,
    report,
    test::{
        built::{BINARY, built},
        prerequisites,
    },
};

/// How many rounds there are, and in a hurry: the fewest that have an interval of 95 %.
const ROUNDS: usize = 15;
const FEW_ROUNDS: usize = 6;

/// How long a case is measured in each round, and in a hurry.
const WINDOW: Duration = Duration::from_secs(1);
const SHORT_WINDOW: Duration = Duration::from_millis(200);

/// What all sections need.
pub(crate) struct Setup {
    /// Whether to take two minutes only.
    pub(crate) quick: bool,
    /// The agent, built for release.
    pub(crate) sixfour: PathBuf,
    /// What the titles of works contain that are measured.
    works: String,
    /// How to measure in rounds.
    pub(crate) plan: Plan,
    /// Tells foreign load.
    pub(crate) meter: Meter,
    /// Where things run.
    pub(crate) processors: Processors,
    /// It goes before the group that it is in.
    spinners: Arc<Cgroup>,
    _cgroup: Cgroup,
}

impl Setup {
    /// Builds the agent, unless one is given, and moves this process into a control group of its own.
    ///
    /// # Errors
    ///
    /// If something is missing or does not build.
    pub(crate) fn new(quick: bool, tolerated: f64, sixfour: Option<&Path>) -> Result<Self> {
        if !is_root() {
            bail!("the benchmark makes network namespaces and loads BPF programs: run it as root");
        }
        prerequisites::ensure_tools(&["iperf3"])?;
        prerequisites::ensure_tools(&kube_proxy::TOOLS)?;
        let sixfour = match sixfour {
            Some(path) => path.canonicalize().with_context(|| format!("{}", path.display()))?,
            None => build()?,
        };
        let cgroup = Cgroup::new("bench")?;
        cgroup.enter()?;
        let spinners = Arc::new(cgroup.child("spinners")?);
        Ok(Self {
            quick,
            sixfour,
            works: String::new(),
            plan: Plan { rounds: if quick { FEW_ROUNDS } else { ROUNDS }, tolerated },
            meter: Meter::new(&cgroup, &spinners),
            processors: Processors::new()?,
            spinners,
            _cgroup: cgroup,
        })
    }

    /// With works only whose titles contain this.
    pub(crate) fn with_works(mut self, title: Option<&str>) -> Self {
        title.unwrap_or_default().clone_into(&mut self.works);
        self
    }

    /// Those of `works` that are measured.
    pub(crate) fn chosen(&self, works: &[Work]) -> impl Iterator<Item = Work> {
        works.iter().copied().filter(|work| work.title.contains(&self.works))
    }

    /// How long a case is measured in each round.
    pub(crate) const fn window(&self) -> Duration {
        if self.quick { SHORT_WINDOW } else { WINDOW }
    }

    /// Keeps the processors awake until what is returned is stopped.
    ///
    /// # Errors
    ///
    /// If threads cannot be started.
    pub(crate) fn keep_awake(&self) -> Result<Spinners> {
        self.processors.keep_awake(&self.spinners)
    }
}

fn build() -> Result<PathBuf> {
    let _: PathBuf = bpf::build()?;
    report::step("building the agent, in release mode");
    built(&["build", "--release", "--package", "proxy-agent"], BINARY)
}
