// SPDX-License-Identifier: Apache-2.0

//! What `docs/metrics.md` says of metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::exposition::Page;

/// What `docs/metrics.md` says of metrics: their types, and their labels.
pub(super) fn documented() -> Result<BTreeMap<String, Documented>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = fs::read_to_string(path)?;
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, means] = cells[..] else { return None };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        let labels = labels.map(|label| label.trim_matches('`').to_owned()).collect();
        let may_be_absent = means.contains("bsent");
        Some((name.to_owned(), Documented { kind: kind.to_owned(), labels, may_be_absent }))
    });
    Ok(rows.collect())
}

/// What is said of a metric.
pub(super) struct Documented {
    kind: String,
    labels: BTreeSet<String>,
    pub(super) may_be_absent: bool,
}

/// All that is on a page is described, and all that is described is there, but for what may be absent.
pub(super) fn is_documented(page: &Page) -> Result<()> {
    let documented = documented()?;
    for (name, family) in &page.families {
        let described = documented.get(name).with_context(|| format!("{name} is not described"))?;
        ensure!(family.kind == described.kind, "{name} is no {}", described.kind);
        let labels: BTreeSet<_> = described.labels.iter().map(String::as_str).collect();
        ensure!(family.label_names() == labels, "{name} has not {labels:?}");
        ensure!(!family.help.is_empty(), "{name} says nothing");
    }
    for (name, described) in documented {
        let is_there = page.families.contains_key(&name) || described.may_be_absent;
        ensure!(is_there, "{name} is described, and is not there");
    }
    Ok(())
}
