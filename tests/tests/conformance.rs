// SPDX-License-Identifier: Apache-2.0

//! `docs/conformance.md` names tests that there are, and all of the suite `service_api`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use walkdir::WalkDir;

/// The suite of which every test must be in the table.
const WHOLE: &str = "service_api";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The tests that the table names.
fn named() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(root().join("docs/conformance.md"))?;
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    Ok(names.map(ToOwned::to_owned).collect())
}

/// Where a module's code may be, from the most specific file to the one around it.
fn files(name: &str) -> Result<Vec<PathBuf>> {
    let mut path: Vec<_> = name.split("::").collect();
    let _: &str = path.pop().context("a name")?;
    let first = path.first().context("a suite")?;
    let base = if *first == "agent" { "proxy-agent/src" } else { "tests/tests" };
    let skipped = usize::from(*first == "agent");
    let mut found = Vec::new();
    while path.len() > skipped {
        let module = root().join(base).join(path[skipped..].join("/"));
        found.push(module.with_extension("rs"));
        found.push(module.join("mod.rs"));
        let _: Option<&str> = path.pop();
    }
    Ok(found)
}

/// The tests of a file: what it lists for both families, and functions with the attribute.
fn tests_of(text: &str) -> BTreeSet<&str> {
    let lists = text.split("both_families!(").skip(1);
    let listed = lists.filter_map(|rest| rest.split_once(");"));
    let listed = listed.flat_map(|(list, _)| list.split(',')).map(str::trim);
    let mut tests: BTreeSet<_> = listed.filter(|name| !name.is_empty()).collect();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
        if let Some((_, function)) = line.split_once("fn ").filter(|_| is_test) {
            tests.extend(function.split(['(', '<']).next());
            is_test = false;
        }
    }
    tests
}

fn is_there(name: &str) -> Result<bool> {
    let function = name.rsplit("::").next().context("a name")?;
    let is_in = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap_or_default();
        tests_of(&text).contains(function)
    };
    Ok(files(name)?.iter().any(is_in))
}

#[test]
fn every_test_that_is_named_is_there() -> Result<()> {
    let named = named()?;
    ensure!(named.len() > 30, "the table is read wrongly: {named:?}");
    for name in named {
        ensure!(is_there(&name)?, "there is no test {name}");
    }
    Ok(())
}

#[test]
fn every_test_of_the_service_api_is_named() -> Result<()> {
    let named = named()?;
    let suites = root().join("tests/tests");
    let mut count = 0;
    for entry in WalkDir::new(suites.join(WHOLE)) {
        let entry = entry?;
        if !entry.file_type().is_file() {
            continue;
        }
        let text = fs::read_to_string(entry.path())?;
        let module = entry.path().strip_prefix(&suites)?.with_extension("");
        let module = module.to_string_lossy().replace('/', "::");
        let module = module.trim_end_matches("::mod");
        for test in tests_of(&text) {
            let name = format!("{module}::{test}");
            ensure!(named.contains(&name), "{name} is not in docs/conformance.md");
            count += 1;
        }
    }
    ensure!(count > 20, "only {count} tests were found");
    Ok(())
}

#[test]
fn a_test_that_is_not_there_is_missed() -> Result<()> {
    ensure!(!is_there("service_api::matrix::no_such_test")?);
    ensure!(!is_there("agent::plan::no_such_test")?);
    // Functions, but no tests.
    ensure!(!is_there("service_api::matrix::every_cell")?);
    ensure!(!is_there("service_api::modules::is_served_over")?);
    for listed_or_plain in [
        "service_api::matrix::every_cell_behind_bridges",
        "service_api::modules::a_vlan",
        "agent::plan::tests::unusable::the_services_own_cluster_ip_is_no_endpoint",
        "agent::runner::tests::lives::every_type_may_become_every_other",
    ] {
        ensure!(is_there(listed_or_plain)?, "{listed_or_plain}");
    }
    Ok(())
}
