// SPDX-License-Identifier: Apache-2.0

//! How agents under test are to be run.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Agent;
use crate::cgroup::Cgroup;
use crate::netns::Namespace;
use crate::scratch::Scratch;
use crate::topology::Host;

/// Names the binary of an agent of another version of the ABI.
const OTHER_ABI_VARIABLE: &str = "SIXFOUR_OTHER_ABI_BIN";

/// How long an agent may take to start, and to stop: it hangs if it takes longer, even in one of
/// several guests whose processors are emulated, and where the verifier takes most of a minute.
const PATIENCE: Duration = Duration::from_mins(3);

/// The arguments that keep an agent in `namespace` to the sockets of its control group.
///
/// Without them it would serve those of the whole machine.
pub fn cgroup_root(namespace: &Namespace) -> Result<[&OsStr; 2]> {
    let cgroup = namespace.cgroup().map(Cgroup::path);
    let cgroup = cgroup.with_context(|| format!("{} has no control group", namespace.name()))?;
    Ok(["--cgroup-root".as_ref(), cgroup.as_os_str()])
}

/// An agent of another version of the ABI, whose tables differ: what `cargo xtask test` builds for this.
pub fn other_abi() -> Result<PathBuf> {
    let named = env::var_os(OTHER_ABI_VARIABLE);
    Ok(named.with_context(|| format!("{OTHER_ABI_VARIABLE} is not set"))?.into())
}

/// How an agent is to be run.
#[derive(Clone, Debug)]
pub struct AgentSpec<'a> {
    pub(super) node: &'a Host,
    /// Where its objects come from, if it is told: a flag, and its value.
    pub(super) objects: Option<(&'static str, &'a Path)>,
    pub(super) arguments: Vec<OsString>,
    pub(super) whole_machine: bool,
    pub(super) binary: Option<PathBuf>,
    pub(super) log_level: &'a str,
    pub(super) patience: Duration,
    pub(super) pin_root: Option<PathBuf>,
}

impl<'a> AgentSpec<'a> {
    /// An agent on `node` that reads the objects in `manifests`.
    #[must_use]
    pub const fn new(node: &'a Host, manifests: &'a Path) -> Self {
        Self::of(node, Some(("--manifests", manifests)))
    }

    /// An agent on `node` that follows the API that a kubeconfig names.
    #[must_use]
    pub const fn following(node: &'a Host, kubeconfig: &'a Path) -> Self {
        Self::of(node, Some(("--kubeconfig", kubeconfig)))
    }

    /// An agent on `node` that finds the API by itself, as in a pod.
    #[must_use]
    pub const fn in_pod(node: &'a Host) -> Self {
        Self::of(node, None)
    }

    const fn of(node: &'a Host, objects: Option<(&'static str, &'a Path)>) -> Self {
        Self {
            node,
            objects,
            arguments: Vec::new(),
            whole_machine: false,
            binary: None,
            log_level: "debug",
            patience: PATIENCE,
            pin_root: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Serves the node's sockets wherever they are made, as by the kernel
    /// itself, whose threads are in no control group but the root. It starts
    /// in guests only.
    #[must_use]
    pub const fn whole_machine(mut self) -> Self {
        self.whole_machine = true;
        self
    }

    /// Runs this binary, whatever the environment says.
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Pins there, on a BPF file system, as another agent may have; by default, it has one of its own.
    #[must_use]
    pub fn pin_root(mut self, path: impl Into<PathBuf>) -> Self {
        self.pin_root = Some(path.into());
        self
    }

    /// What it logs; `debug` and above by default.
    #[must_use]
    pub const fn log_level(mut self, level: &'a str) -> Self {
        self.log_level = level;
        self
    }

    /// How long it may take to start, and to stop; three minutes by default.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts the agent and waits until it is ready.
    pub fn start(self) -> Result<Agent<'a>> {
        let agent = self.begin()?;
        agent.wait_until_ready()?;
        Ok(agent)
    }

    /// Starts the agent, which need not become ready.
    pub fn begin(self) -> Result<Agent<'a>> {
        let scratch = Scratch::new(self.node.name())?;
        let pin_root = match &self.pin_root {
            Some(pin_root) => pin_root.clone(),
            None => scratch.mount_bpffs()?.join("sixfour"),
        };
        let mut agent = Agent { spec: self, scratch, pin_root, process: None };
        agent.begin()?;
        Ok(agent)
    }
}
