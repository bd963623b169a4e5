// SPDX-License-Identifier: Apache-2.0

//! The agent under test: `sixfour run` in the namespace of a node.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::guest;
use crate::process::Process;
use crate::scratch::Scratch;

mod spec;

pub use spec::{AgentSpec, cgroup_root, other_abi};

/// Names the binary, instead of the one beside the running program.
const BINARY_VARIABLE: &str = "SIXFOUR_BIN";

/// The message by which an agent says that it serves all Services.
const READY: &str = "ready";

/// An agent with its pins and its log.
///
/// When it is dropped without having been stopped, it is killed and its log
/// is written to standard error: something must have failed. What it has
/// attached goes with its pins, when this is dropped.
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

    /// Starts it again after [`Agent::leave`], [`Agent::stop`] or [`Agent::kill`], with the
    /// same pins, and waits until it is ready.
    pub fn start(&mut self) -> Result<()> {
        self.begin()?;
        self.wait_until_ready()
    }

    /// Has an agent of another version of the ABI be started from now on; or the usual one again.
    pub fn change_abi(&mut self, is_other: bool) -> Result<()> {
        self.spec.binary = if is_other { Some(other_abi()?) } else { None };
        Ok(())
    }

    /// Starts it again without waiting until it is ready.
    pub fn begin(&mut self) -> Result<()> {
        self.process = Some(self.spawn()?);
        Ok(())
    }

    /// Starts another process with the same pins beside the one that runs, and returns the latter; it
    /// does not wait until the new one, which this agent is from now on, is ready.
    pub fn start_successor(&mut self) -> Result<Process> {
        let successor = self.spawn()?;
        self.process.replace(successor).context("the agent is not running")
    }

    /// Waits until it is ready.
    pub fn wait_until_ready(&self) -> Result<()> {
        self.wait_for(READY, self.spec.patience)
    }

    fn spawn(&self) -> Result<Process> {
        // A new file: who runs already goes on writing to the old one.
        let path = self.log_path();
        if path.exists() {
            fs::remove_file(&path)?;
        }
        let log = File::create(path)?;
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
        Process::spawn(namespace, command)
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

    /// Ends it by SIGTERM and returns how it ended. What it has attached goes on serving.
    pub fn leave(&mut self) -> Result<ExitStatus> {
        let process = self.process.as_ref().context("the agent is not running")?;
        process.signal(Signal::SIGTERM)?;
        let status = process.wait(self.spec.patience)?;
        self.process = None;
        Ok(status)
    }

    /// Ends it by SIGTERM and returns how it ended, and removes what it has left.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let status = self.leave()?;
        let _: String = self.cleanup()?;
        Ok(status)
    }

    /// Removes what it has left, and returns what `sixfour cleanup` says of it.
    pub fn cleanup(&self) -> Result<String> {
        let Output { status, stdout, stderr } = self.command(&["cleanup"])?;
        ensure!(status.success(), "cleaning up: {}", String::from_utf8_lossy(&stderr));
        Ok(String::from_utf8(stdout)?)
    }

    /// Kills it, as the kernel does when memory runs out. What it has attached goes on serving.
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

    /// The same as it goes on, with its standard output and its errors in these files.
    pub fn begin_command(&self, arguments: &[&str], out: File, errors: File) -> Result<Process> {
        let mut command = self.spec.node.namespace().command(self.binary()?);
        let _ = command.args(arguments).arg("--pin-root").arg(&self.pin_root);
        let _ = command.stdin(Stdio::null()).stdout(out).stderr(errors);
        Process::spawn(self.spec.node.namespace(), command)
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
