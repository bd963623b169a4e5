// SPDX-License-Identifier: Apache-2.0

//! The agent under test: `sixfour run` in the namespace of a node.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cgroup::Cgroup;
use crate::guest;
use crate::netns::Namespace;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::topology::Host;

/// Names the binary, instead of the one beside the running program.
const BINARY_VARIABLE: &str = "SIXFOUR_BIN";

/// The message by which an agent says that it serves all Services.
const READY: &str = "ready";

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

/// How an agent is to be run.
#[derive(Clone, Debug)]
pub struct AgentSpec<'a> {
    node: &'a Host,
    /// Where its objects come from, if it is told: a flag, and its value.
    objects: Option<(&'static str, &'a Path)>,
    arguments: Vec<OsString>,
    whole_machine: bool,
    binary: Option<PathBuf>,
    log_level: &'a str,
    patience: Duration,
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
        let scratch = Scratch::new(self.node.name())?;
        let pin_root = scratch.mount_bpffs()?.join("sixfour");
        let mut agent = Agent { spec: self, scratch, pin_root, process: None };
        agent.start()?;
        Ok(agent)
    }
}

/// An agent with its pins and its log.
///
/// When it is dropped without having been stopped, it is killed and its log
/// is written to standard error: something must have failed.
#[derive(Debug)]
pub struct Agent<'a> {
    spec: AgentSpec<'a>,
    scratch: Scratch,
    pin_root: PathBuf,
    process: Option<Process>,
}

impl Agent<'_> {
    /// Where it pins its maps; on a BPF file system of its own, which stays
    /// when the agent is stopped.
    #[must_use]
    pub fn pin_root(&self) -> &Path {
        &self.pin_root
    }

    /// What it has logged since it was started last, one JSON object a line.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(self.log_path()).context("reading the agent's log")
    }

    /// The file with what [`Agent::log`] returns.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.scratch.path().join("agent.log")
    }

    /// Starts it again after [`Agent::stop`] or [`Agent::kill`], with the
    /// same pins, and waits until it is ready.
    pub fn start(&mut self) -> Result<()> {
        let log = File::create(self.log_path())?;
        let namespace = self.spec.node.namespace();
        let mut command = namespace.command(self.binary()?);
        let objects = self.spec.objects;
        let cgroup_root = if self.spec.whole_machine {
            guest::ensure_here()?;
            None
        } else {
            Some(cgroup_root(namespace)?)
        };
        let _ = command
            .args(["run", "--log-level", self.spec.log_level, "--log-format", "json"])
            .args(["--hostname-override", self.spec.node.name()])
            .args(objects.into_iter().flat_map(|(flag, path)| [flag.as_ref(), path.as_os_str()]))
            .args(["--pin-root".as_ref(), self.pin_root.as_path()])
            .args(cgroup_root.into_iter().flatten())
            .args(&self.spec.arguments)
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log);
        self.process = Some(Process::spawn(namespace, command)?);
        self.wait_for(READY, self.spec.patience)
    }

    /// Waits until it has logged `message`.
    pub fn wait_for(&self, message: &str, patience: Duration) -> Result<()> {
        let node = self.spec.node.name();
        let process = self.process.as_ref().context("the agent is not running")?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            // The state comes first: what a dead agent logged is all there.
            let status = process.status()?;
            if self.log()?.lines().any(|line| is_message(line, message)) {
                return Ok(());
            }
            if let Some(status) = status {
                bail!("the agent on {node} ended ({status}) before it said {message:?}");
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("the agent on {node} has not said {message:?} within {patience:?}")
    }

    /// Stops it by SIGTERM and returns how it ended.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let process = self.process.as_ref().context("the agent is not running")?;
        process.signal(Signal::SIGTERM)?;
        let status = process.wait(self.spec.patience)?;
        self.process = None;
        Ok(status)
    }

    /// Kills it, as the kernel does when memory runs out.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// What `sixfour list` says of its tables, as JSON.
    pub fn list(&self, what: &str) -> Result<Value> {
        let Output { status, stdout, stderr } = self.command(&["list", what, "-o", "json"])?;
        ensure!(status.success(), "listing {what}: {}", String::from_utf8_lossy(&stderr));
        Ok(serde_json::from_slice(&stdout)?)
    }

    /// What `sixfour`, with these arguments and this agent's pins, says on the node.
    pub fn command(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.spec.node.namespace().command(self.binary()?);
        let _ = command.args(arguments).arg("--pin-root").arg(&self.pin_root);
        self.spec.node.namespace().run(|| Ok(command.output()?))
    }

    /// The running process.
    #[must_use]
    pub const fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// The binary that was asked for, or the one that cargo has put beside
    /// the running program (tests are in a directory below).
    fn binary(&self) -> Result<PathBuf> {
        let named = self.spec.binary.clone().or_else(|| Some(env::var_os(BINARY_VARIABLE)?.into()));
        if let Some(path) = named {
            return Ok(path);
        }
        let program = env::current_exe()?;
        let mut beside = program.ancestors().skip(1).take(2).map(|path| path.join("sixfour"));
        beside.find(|path| path.is_file()).with_context(|| {
            format!(
                "there is no sixfour beside {}: run cargo build, or name it in {BINARY_VARIABLE}",
                program.display(),
            )
        })
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if self.process.take().is_some() {
            let log = self.log().unwrap_or_else(|error| format!("{error:#}"));
            eprintln!("log of the agent on {}:\n{log}", self.spec.node.name());
        }
    }
}

/// Whether a line of the log has this message.
fn is_message(line: &str, message: &str) -> bool {
    let entry = serde_json::from_str::<Value>(line);
    entry.is_ok_and(|entry| entry["fields"]["message"] == message)
}
