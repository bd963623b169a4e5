// SPDX-License-Identifier: Apache-2.0

//! The dashboard and the rules for Prometheus in `deploy/`: they name metrics that are there, and are sound.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// What the names of metrics begin with.
const OURS: [&str; 5] = ["kubeproxy_", "kubernetes_", "process_", "rest_client_", "sixfour_"];
/// What Prometheus itself makes for each target.
const OF_PROMETHEUS: &str = "up";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// What is asked for in a file: each value of this field, wherever it is.
fn fields(value: &Value, field: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get(field).and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| fields(value, field, found));
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, field, found)),
        _ => {}
    }
}

/// The names in an expression that something is looked up by: what is neither called, nor in a list of labels.
fn names(expression: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut depth, mut quoted, mut word) = (0, false, String::new());
    for character in expression.chars().chain([' ']) {
        if character == '"' {
            quoted = !quoted;
        }
        if !quoted && (character.is_ascii_alphanumeric() || "_:".contains(character)) {
            word.push(character);
            continue;
        }
        let is_ours = OURS.iter().any(|prefix| word.contains(prefix)) || word == OF_PROMETHEUS;
        if depth == 0 && is_ours {
            let _ = names.insert(word.clone());
        }
        word.clear();
        match character {
            '{' if !quoted => depth += 1,
            '}' if !quoted => depth -= 1,
            _ => {}
        }
    }
    names
}

/// The dashboard and the rules name metrics of these names only, and each of their expressions names one.
pub(super) fn name_only(metrics: &BTreeSet<String>) -> Result<()> {
    let rules = fs::read_to_string(deploy().join("prometheus/sixfour.rules.yaml"))?;
    let rules: Value = serde_saphyr::from_str(&rules)?;
    let dashboard = fs::read_to_string(deploy().join("grafana/sixfour.json"))?;
    let dashboard: Value = serde_json::from_str(&dashboard)?;
    let mut recorded = Vec::new();
    fields(&rules, "record", &mut recorded);
    let mut expressions = Vec::new();
    fields(&rules, "expr", &mut expressions);
    ensure!(expressions.len() > 15, "{} rules", expressions.len());
    fields(&dashboard, "expr", &mut expressions);
    ensure!(expressions.len() > 50, "{} expressions", expressions.len());
    for expression in &expressions {
        let names = names(expression);
        ensure!(!names.is_empty(), "it asks for nothing: {expression}");
        for name in names {
            let parts = ["_bucket", "_sum", "_count"].iter();
            let of_histogram = parts.filter_map(|part| name.strip_suffix(part));
            let mut candidates = of_histogram.chain([name.as_str()]);
            let is_known = candidates.any(|name| metrics.contains(name))
                || name == OF_PROMETHEUS
                || recorded.contains(&name);
            ensure!(is_known, "there is no {name}, which is asked for by {expression}");
        }
    }
    Ok(())
}

/// Prometheus' own checks. `SIXFOUR_PROMTOOL` says where they are, if they are not where programs are looked for.
fn promtool(arguments: &[&str], input: &str) -> Result<String> {
    let promtool = env::var_os("SIXFOUR_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let mut command = Command::new(&promtool);
    let _ = command.args(arguments).current_dir(deploy().join("prometheus"));
    let _ = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process =
        command.spawn().with_context(|| format!("cannot run {}", promtool.display()))?;
    process.stdin.take().context("its input")?.write_all(input.as_bytes())?;
    let output = process.wait_with_output()?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if !output.status.success() {
        bail!("{arguments:?}: {said}");
    }
    Ok(said)
}

/// Prometheus takes a page, and finds fault with what is kube-proxy's only.
pub(super) fn is_sound(page: &str) -> Result<()> {
    // It ends with a failure where it has anything to say.
    let said = match promtool(&["check", "metrics"], page) {
        Ok(said) => said,
        Err(error) => format!("{error:#}"),
    };
    let faults = said.lines().filter(|line| line.contains("sixfour_"));
    let faults: Vec<_> = faults.collect();
    ensure!(faults.is_empty() && !said.contains("error while"), "{said}");
    Ok(())
}

#[test]
fn rules_are_sound() -> Result<()> {
    let said = promtool(&["check", "rules", "sixfour.rules.yaml"], "")?;
    ensure!(said.contains("SUCCESS"), "{said}");
    let said = promtool(&["test", "rules", "sixfour.test.yaml"], "")?;
    ensure!(said.contains("SUCCESS"), "{said}");
    // Each alert is tested where it fires.
    let read = |file: &str| -> Result<Value> {
        Ok(serde_saphyr::from_str(&fs::read_to_string(deploy().join("prometheus").join(file))?)?)
    };
    let (mut alerts, mut tested) = (Vec::new(), Vec::new());
    fields(&read("sixfour.rules.yaml")?, "alert", &mut alerts);
    let tests = read("sixfour.test.yaml")?;
    for test in tests["tests"].as_array().context("tests")? {
        for alert in test["alert_rule_test"].as_array().into_iter().flatten() {
            if alert["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty()) {
                tested.extend(alert["alertname"].as_str().map(str::to_owned));
            }
        }
    }
    for alert in alerts {
        ensure!(tested.contains(&alert), "{alert} is not tested");
    }
    Ok(())
}

#[test]
fn a_page_with_a_fault_is_found() -> Result<()> {
    let page = |name: &str| format!("# HELP {name} of x\n# TYPE {name} counter\n{name} 1\n");
    is_sound(&page("sixfour_x_total"))?;
    // Whatever is kube-proxy's has its name.
    is_sound(&page("kubeproxy_x"))?;
    ensure!(is_sound(&page("sixfour_x")).is_err(), "a counter without its ending");
    ensure!(is_sound("sixfour_x_total one\n").is_err(), "no page");
    Ok(())
}

#[test]
fn names_are_found_in_expressions() {
    let found = |expression: &str| names(expression).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(found(r#"rate(sixfour_a_total{up="sixfour_b"}[5m]) > 0"#), "sixfour_a_total");
    assert_eq!(
        found("up == 0 and job:sixfour_c:p99 > process_d"),
        "job:sixfour_c:p99 process_d up"
    );
    assert_eq!(found("vector(0)"), "");
}
