// SPDX-License-Identifier: Apache-2.0
//! `sixfour config check`: what is taken of a file of kube-proxy's, what means nothing, and what is wrong.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::{CheckArgs, ConfigCommand},
    config::{Field, KubeProxyConfiguration},
    table::{self, Row},
};

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Fate {
    /// The file has a value that cannot be.
    Wrong,
    /// The file says so.
    Used,
    /// Nothing says otherwise.
    Default,
    /// The file says so, and it means nothing.
    Ignored,
}

/// A field, and what becomes of it.
#[derive(Debug, PartialEq, Serialize)]
struct Finding {
    field: String,
    value: Value,
    fate: Fate,
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
}

impl Row for Finding {
    const HEAD: &'static [&'static str] = &["FIELD", "VALUE", "IS", "WHY"];

    fn cells(&self) -> Vec<String> {
        let Self { field, value, fate, why } = self;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let fate = format!("{fate:?}").to_lowercase();
        vec![field.clone(), value, fate, why.clone()]
    }
}

/// Does what is asked.
///
/// # Errors
///
/// If the file cannot be read, or has something in it that cannot be.
pub fn run(command: &ConfigCommand) -> anyhow::Result<()> {
    let ConfigCommand::Check(CheckArgs { file, output }) = command;
    let name = file.display();
    let read = KubeProxyConfiguration::read(file).with_context(|| name.to_string())?;
    let findings = findings(read)?;
    table::write(*output, &findings)?;
    match findings.iter().filter(|finding| finding.fate == Fate::Wrong).count() {
        0 => Ok(()),
        1 => bail!("{name}: one value cannot be"),
        wrong => bail!("{name}: {wrong} values cannot be"),
    }
}

/// What becomes of each field: first what is wrong, then what holds, then what means nothing.
fn findings(read: KubeProxyConfiguration) -> serde_json::Result<Vec<Finding>> {
    let said: BTreeMap<_, _> = read.said()?.into_iter().collect();
    let mode = read.known_mode();
    let mut complete = read;
    complete.complete();
    let wrong = complete.check();
    let mut findings: Vec<_> = wrong
        .iter()
        .map(|invalid| Finding {
            field: invalid.field.clone(),
            value: Value::String(invalid.value.clone()),
            fate: Fate::Wrong,
            why: invalid.why.clone(),
        })
        .collect();
    let has_meaning =
        |path: &str| Field::at(path).is_some_and(|field| field.why_ignored(mode).is_none());
    for (field, value) in complete.said()? {
        if has_meaning(&field) && !wrong.iter().any(|invalid| invalid.field.starts_with(&field)) {
            let fate = if said.contains_key(&field) { Fate::Used } else { Fate::Default };
            findings.push(Finding { field, value, fate, why: String::new() });
        }
    }
    for (field, value) in said {
        if let Some(why) = Field::at(&field).and_then(|field| field.why_ignored(mode)) {
            findings.push(Finding { field, value, fate: Fate::Ignored, why });
        }
    }
    findings.sort_by_key(|finding| finding.fate == Fate::Ignored);
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(text: &str) -> Vec<(String, Value, Fate)> {
        let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
        let read = KubeProxyConfiguration::parse(&format!("{head}{text}")).unwrap();
        let findings = findings(read).unwrap().into_iter();
        findings.map(|Finding { field, value, fate, .. }| (field, value, fate)).collect()
    }

    fn found(of: &[(String, Value, Fate)], field: &str) -> Option<(Value, Fate)> {
        let found = of.iter().find(|(path, ..)| path == field);
        found.map(|(_, value, fate)| (value.clone(), *fate))
    }

    #[test]
    fn each_field_has_one_fate() {
        let all = of(
            "mode: nftables\nclusterCIDR: fd00::/56\nnftables: {masqueradeAll: true, minSyncPeriod: 2s}\n\
             iptables: {masqueradeAll: true}\nenableProfiling: true\noomScoreAdj: 2000\n",
        );
        for (field, value, fate) in [
            ("clusterCIDR", json!("fd00::/56"), Fate::Used),
            ("conntrack.tcpCloseWaitTimeout", json!("1h0m0s"), Fate::Default),
            ("nftables.masqueradeAll", json!(true), Fate::Used),
            ("nftables.minSyncPeriod", json!("2s"), Fate::Ignored),
            ("iptables.masqueradeAll", json!(true), Fate::Ignored),
            ("enableProfiling", json!(true), Fate::Ignored),
            ("oomScoreAdj", json!("2000"), Fate::Wrong),
            ("nodePortAddresses", json!(["primary"]), Fate::Default),
        ] {
            assert_eq!(found(&all, field), Some((value, fate)), "{field}");
        }
        assert_eq!(found(&all, "ipvs.scheduler"), None);
        let mut fields: Vec<_> = all.iter().map(|(field, ..)| field).collect();
        fields.sort();
        fields.dedup();
        assert_eq!(fields.len(), all.len());
        assert_eq!(all[0].0, "oomScoreAdj");
    }
}
