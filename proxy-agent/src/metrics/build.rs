// SPDX-License-Identifier: Apache-2.0
//! What is running: which Kubernetes' proxy this one is like, which version it is, and which features are on.

use std::{collections::BTreeMap, env::consts::ARCH};

use prometheus::{
    Error,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::row::{Is, Row};
use crate::config::{FeatureGate, KubeProxyConfiguration};

/// The version of Kubernetes whose kube-proxy this is like.
const LIKE: (&str, &str) = ("1", "36");
/// Sets all features of a stage that nobody sets by themselves.
const ALL_OF: [(&str, &str); 2] = [("AllAlpha", "ALPHA"), ("AllBeta", "BETA")];

/// The labels of `kubernetes_build_info`.
const LABELS: [&str; 9] = [
    "build_date",
    "compiler",
    "git_commit",
    "git_tree_state",
    "git_version",
    "go_version",
    "major",
    "minor",
    "platform",
];

/// Tells of it.
#[derive(Debug)]
pub struct Build {
    info: Row,
    own: Row,
    features: Row,
    /// Name, stage, and whether it is on.
    enabled: Vec<(&'static str, &'static str, bool)>,
}

impl Build {
    /// Of an agent with this configuration.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn new(configuration: &KubeProxyConfiguration) -> Result<Self, Error> {
        let help = "Always 1: the version of Kubernetes whose kube-proxy Sixfour takes the place of, and its own";
        Ok(Self {
            info: Row::new(Is::Gauge, "kubernetes_build_info", help, &LABELS)?,
            own: Row::new(
                Is::Gauge,
                "sixfour_build_info",
                "Always 1: the version of Sixfour, and the commit that it was built from, if that is known",
                &["commit", "version"],
            )?,
            features: Row::new(
                Is::Gauge,
                "kubernetes_feature_enabled",
                "Whether a feature of Kubernetes is on, by its stage, which is empty for those that are generally available",
                &["name", "stage"],
            )?,
            enabled: enabled(&configuration.feature_gates),
        })
    }
}

impl Collector for Build {
    fn desc(&self) -> Vec<&Desc> {
        [&self.info, &self.own, &self.features].map(Row::desc).to_vec()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (version, commit) = version(env!("SIXFOUR_VERSION"));
        let (major, minor) = LIKE;
        let git_version = format!("v{major}.{minor}.0+sixfour.{version}");
        let platform = format!("linux/{}", if ARCH == "x86_64" { "amd64" } else { ARCH });
        let labels = ["", "rustc", commit, "", &git_version, "", major, minor, &platform];
        let features = self.enabled.iter();
        vec![
            self.info.of([(labels, 1.0)]),
            self.own.of([([commit, version], 1.0)]),
            self.features.of(features.map(|(name, stage, on)| ([*name, *stage], f64::from(*on)))),
        ]
    }
}

/// The version and the commit of `0.1.0 (abc1234)`; without parentheses, no commit is known.
fn version(text: &str) -> (&str, &str) {
    match text.split_once(" (") {
        Some((version, commit)) => (version, commit.trim_end_matches(')')),
        None => (text, ""),
    }
}

/// As Kubernetes' `featuregate` has it: what is set by itself, else with all of its stage, else its default.
fn enabled(set: &BTreeMap<String, bool>) -> Vec<(&'static str, &'static str, bool)> {
    let of = |gate: FeatureGate| {
        let all = ALL_OF.iter().find(|(_, stage)| *stage == gate.stage);
        let all = all.and_then(|(all, _)| set.get(*all)).copied();
        let on = set.get(gate.name).copied().or(all).unwrap_or(gate.default);
        let stage = if gate.stage == "GA" { "" } else { gate.stage };
        (gate.name, stage, on)
    };
    FeatureGate::all().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_as_they_are_set() {
        let on = |set: &[(&str, bool)], name: &str| {
            let set = set.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect();
            let (_, stage, on) = *enabled(&set).iter().find(|(known, ..)| *known == name).unwrap();
            (stage, on)
        };
        // Kubernetes' own defaults.
        assert_eq!(on(&[], "WorkloadWithJob"), ("ALPHA", false));
        assert_eq!(on(&[], "WatchList"), ("BETA", true));
        assert_eq!(on(&[], "WinDSR"), ("", true));
        assert_eq!(on(&[("AllAlpha", true)], "WorkloadWithJob"), ("ALPHA", true));
        assert_eq!(on(&[("AllAlpha", true)], "WatchList"), ("BETA", true));
        assert_eq!(on(&[("AllBeta", false)], "WatchList"), ("BETA", false));
        let both = [("AllBeta", false), ("WatchList", true)];
        assert_eq!(on(&both, "WatchList"), ("BETA", true));
    }

    #[test]
    fn a_version_may_have_a_commit() {
        assert_eq!(version("0.1.0 (abc1234)"), ("0.1.0", "abc1234"));
        assert_eq!(version("0.1.0"), ("0.1.0", ""));
    }
}
