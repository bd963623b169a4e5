// SPDX-License-Identifier: Apache-2.0

//! `docs/conformance.md` names tests that there are, and all of the suite `service_api`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

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

fn is_there(name: &str) -> Result<bool> {
    let function = name.rsplit("::").next().context("a name")?;
    let is_in = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap_or_default();
        [format!("fn {function}("), format!("fn {function}<")]
            .iter()
            .any(|what| text.contains(what))
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
    let mut count = 0;
    for entry in fs::read_dir(root().join("tests/tests").join(WHOLE))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let Some((_, scenarios)) = text.split_once("both_families!(") else { continue };
        let (scenarios, _) = scenarios.split_once(");").context("the end of the scenarios")?;
        let module = path.file_stem().context("a module")?.to_string_lossy();
        for scenario in scenarios.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let name = format!("{WHOLE}::{module}::{scenario}");
            ensure!(named.contains(&name), "{name} is not in docs/conformance.md");
            count += 1;
        }
    }
    ensure!(count > 10, "only {count} tests were found");
    Ok(())
}

#[test]
fn a_test_that_is_not_there_is_missed() -> Result<()> {
    ensure!(!is_there("service_api::matrix::no_such_test")?);
    ensure!(!is_there("agent::plan::no_such_test")?);
    ensure!(is_there("service_api::matrix::every_cell_behind_bridges")?);
    Ok(())
}
