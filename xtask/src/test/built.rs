// SPDX-License-Identifier: Apache-2.0
//! What cargo builds for the tests, and where it puts it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    bpf,
    process::{Run as _, cargo},
    report, workspace,
};

/// The packages that every command of the tests is about. Cargo compiles a dependency once for each
/// set of features that a selection of packages asks for: with another selection for each command it
/// would compile most of them three times. So the agent of the tests has what the tests' own
/// dependencies ask for besides; the demo and the image build it by itself.
pub(crate) const PACKAGES: [&str; 3] = ["--workspace", "--exclude", "proxy-ebpf"];

/// A small test. A command that has one among its targets asks for what the packages' own tests ask of
/// dependencies, too: one that had none would compile most of these anew.
const ANY_TEST: &str = "agent_runner";

/// The agent's binary.
pub(crate) const BINARY: &str = "sixfour";

/// The workspace, built.
pub(super) struct Workspace {
    sixfour: PathBuf,
    other_abi: Option<PathBuf>,
    tests: Vec<String>,
}

impl Workspace {
    /// Builds all but the BPF programs and looks which integration tests there are; an agent of another version of the
    /// ABI, too, if there is an object for it.
    ///
    /// # Errors
    ///
    /// If it does not build.
    pub(super) fn build(other_object: Option<&Path>) -> Result<Self> {
        // First: what is built last lies where cargo's own commands look for it.
        let other_abi = other_object.map(agent_of_other_abi).transpose()?;
        let sixfour = built(&[&["build", "--all-targets"], &PACKAGES[..]].concat(), BINARY)?;
        let metadata = cargo().args(["metadata", "--no-deps", "--format-version=1"]).read()?;
        let metadata: Value = serde_json::from_str(&metadata).context("reading cargo's words")?;
        Ok(Self { sixfour, other_abi, tests: integration_tests(&metadata) })
    }

    /// The agent.
    pub(super) fn sixfour(&self) -> &Path {
        &self.sixfour
    }

    /// An agent of another version of the ABI, if it was asked for.
    pub(super) fn other_abi(&self) -> Option<&Path> {
        self.other_abi.as_deref()
    }

    /// The names of the integration tests.
    pub(super) fn tests(&self) -> &[String] {
        &self.tests
    }
}

/// Builds an agent of another version of the ABI, with its `object`, for tests of upgrades, and returns its path. It is
/// kept apart: the agent itself is built by the same name.
///
/// # Errors
///
/// If it does not build.
fn agent_of_other_abi(object: &Path) -> Result<PathBuf> {
    report::step("building an agent of another ABI version");
    let feature = format!("proxy-agent/{}", bpf::OTHER_ABI);
    let messages = cargo()
        .args(["build", "--bin", BINARY, "--test", ANY_TEST, "--features", &feature])
        .args(PACKAGES)
        .arg("--message-format=json-render-diagnostics")
        .env("SIXFOUR_BPF_OBJECT", object)
        .read()?;
    let agent = workspace::target("other-abi").join(BINARY);
    let built = find_built(&messages, BINARY)?;
    let _: u64 = fs::copy(&built, &agent)
        .with_context(|| format!("cannot copy {} to {}", built.display(), agent.display()))?;
    Ok(agent)
}

/// Builds an integration test and returns the path of its program.
///
/// # Errors
///
/// If it does not build.
pub(super) fn integration_test(name: &str) -> Result<PathBuf> {
    built(&[&["test", "--no-run", "--test", name], &PACKAGES[..]].concat(), name)
}

/// Runs cargo and returns the program that it built for the target `name`.
///
/// # Errors
///
/// If it does not build.
pub(crate) fn built(arguments: &[&str], name: &str) -> Result<PathBuf> {
    let messages =
        cargo().args(arguments).arg("--message-format=json-render-diagnostics").read()?;
    find_built(&messages, name)
}

/// The program for the target `name` among what cargo says that it has built: an integration test, or
/// a binary itself rather than the tests in it.
///
/// # Errors
///
/// If it is not among it.
pub(crate) fn find_built(messages: &str, name: &str) -> Result<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| {
            let kind = message["target"]["kind"][0].as_str();
            let is_test = matches!(kind, Some("test" | "bench"));
            message["target"]["name"] == name && message["profile"]["test"] == is_test
        })
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo built no program {name}"))
}

fn integration_tests(metadata: &Value) -> Vec<String> {
    let empty = Vec::new();
    let list = |value: &Value| value.as_array().unwrap_or(&empty).clone();
    list(&metadata["packages"])
        .iter()
        .flat_map(|package| list(&package["targets"]))
        .filter(|target| target["kind"][0] == "test")
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect()
}
