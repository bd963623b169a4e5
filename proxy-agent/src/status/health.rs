// SPDX-License-Identifier: Apache-2.0
//! `/healthz` and `/livez`: whether the proxy is well, and whether load balancers should send clients to this node
//! (`pkg/proxy/healthcheck/proxy_health.go`, Kubernetes 1.36; KEP-3836).

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::{sync::watch, time::Instant};

use crate::{
    http_server::{self, Answer, Failure},
    metrics::HealthAnswers,
    runner::{FamilyProgress, NodeState, Progress},
};

/// What is answered about the proxy's health.
#[derive(Clone, Debug)]
pub struct Health {
    progress: watch::Receiver<Progress>,
    /// How long something may be queued.
    patience: Duration,
    /// Whether objects come from a cluster, which has a Node for each machine.
    has_nodes: bool,
    answers: HealthAnswers,
}

/// The body, in kube-proxy's order.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(serialize_with = "as_rfc_3339")]
    last_updated: Option<SystemTime>,
    #[serde(serialize_with = "as_rfc_3339")]
    current_time: Option<SystemTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<&'static str, FamilyReport>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyReport {
    #[serde(serialize_with = "as_rfc_3339")]
    last_updated: Option<SystemTime>,
    healthy: bool,
}

impl Health {
    /// Of a proxy that has come so far, where something may be queued for this long. Without a cluster there need be no
    /// Node. Answers are counted.
    #[must_use]
    pub const fn new(
        progress: watch::Receiver<Progress>,
        patience: Duration,
        has_nodes: bool,
        answers: HealthAnswers,
    ) -> Self {
        Self { progress, patience, has_nodes, answers }
    }

    /// `/livez`: whether the proxy itself is well.
    pub(super) fn livez(&self) -> Result<Answer, Failure> {
        let (now, time) = (Instant::now(), SystemTime::now());
        let answer = answer(&report(&self.progress.borrow(), self.patience, now, time))?;
        self.answers.livez(answer.status().as_u16());
        Ok(answer)
    }

    /// `/healthz`: the same, and whether the node is one that clients should be sent to.
    pub(super) fn healthz(&self) -> Result<Answer, Failure> {
        let (now, time) = (Instant::now(), SystemTime::now());
        let progress = self.progress.borrow();
        let mut report = report(&progress, self.patience, now, time);
        let is_eligible = self.is_eligible(progress.node);
        report.node_eligible = Some(is_eligible);
        if !is_eligible {
            report.last_updated = latest(&progress.families);
        }
        drop(progress);
        let answer = answer(&report)?;
        self.answers.healthz(answer.status().as_u16());
        Ok(answer)
    }

    /// Until objects have been read, what was known before may hold: the node serves by it.
    const fn is_eligible(&self, node: NodeState) -> bool {
        match node {
            NodeState::Unknown | NodeState::Eligible => true,
            NodeState::Missing => !self.has_nodes,
            NodeState::Leaving | NodeState::Gone => false,
        }
    }
}

/// The report for `/livez`. A family that has never been updated is starting.
fn report(progress: &Progress, patience: Duration, now: Instant, time: SystemTime) -> Report {
    let started = progress.families.iter().filter(|family| family.updated.is_some());
    let families = started.map(|family| {
        let in_time = family.queued.is_none_or(|since| now < since + patience);
        (family.family, FamilyReport { last_updated: family.updated, healthy: in_time })
    });
    let status: BTreeMap<_, _> = families.collect();
    let healthy = status.values().all(|family| family.healthy);
    Report {
        // Of one that is well it is always lately.
        last_updated: if healthy { Some(time) } else { latest(&progress.families) },
        current_time: Some(time),
        node_eligible: None,
        healthy,
        status,
    }
}

fn latest(families: &[FamilyProgress]) -> Option<SystemTime> {
    families.iter().filter_map(|family| family.updated).max()
}

fn answer(report: &Report) -> Result<Answer, Failure> {
    let is_well = report.healthy && report.node_eligible.unwrap_or(true);
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_vec(report)?;
    Ok(http_server::of_type("application/json", status, body.into()))
}

/// As Go writes times; none is its first one.
#[expect(clippy::ref_option, reason = "as serde calls it")]
fn as_rfc_3339<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time.map(Timestamp::try_from) {
        Some(Ok(time)) => serializer.collect_str(&time),
        _ => serializer.serialize_str("0001-01-01T00:00:00Z"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Page;

    const PATIENCE: Duration = Duration::from_mins(1);

    /// A minute ago, and the time.
    fn times() -> (SystemTime, SystemTime) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_221_643_250);
        (now - PATIENCE, now)
    }

    fn progress(queued: [Option<Instant>; 2], updated: [Option<SystemTime>; 2]) -> Progress {
        let families = ["IPv4", "IPv6"].into_iter().zip(queued).zip(updated);
        let families =
            families.map(|((family, queued), updated)| FamilyProgress { family, updated, queued });
        Progress { families: families.collect(), node: NodeState::Eligible }
    }

    fn health(node: NodeState, has_nodes: bool) -> Health {
        let progress = Progress { node, ..Progress::default() };
        let answers = HealthAnswers::new(&Page::default()).unwrap();
        Health::new(watch::Sender::new(progress).subscribe(), PATIENCE, has_nodes, answers)
    }

    #[test]
    fn a_report_is_as_kube_proxys() {
        let (before, time) = times();
        let now = Instant::now();
        let all = report(&progress([None; 2], [Some(before); 2]), PATIENCE, now, time);
        let expected = "{\"lastUpdated\":\"2026-11-21T00:40:43.25Z\",\
                         \"currentTime\":\"2026-11-21T00:40:43.25Z\",\"healthy\":true,\
                         \"status\":{\"IPv4\":{\"lastUpdated\":\"2026-11-21T00:39:43.25Z\",\"healthy\":true},\
                         \"IPv6\":{\"lastUpdated\":\"2026-11-21T00:39:43.25Z\",\"healthy\":true}}}";
        assert_eq!(serde_json::to_string(&all).unwrap(), expected);
    }

    #[test]
    fn a_family_may_lag_behind_for_some_time() {
        let (before, time) = times();
        let since = Instant::now();
        for (family, other) in [(0, 1), (1, 0)] {
            let mut queued = [None; 2];
            queued[family] = Some(since);
            let progress = progress(queued, [Some(before); 2]);
            let at =
                |seconds| report(&progress, PATIENCE, since + Duration::from_secs(seconds), time);
            assert!(at(59).healthy);
            let late = at(60);
            assert!(!late.healthy && late.last_updated == Some(before), "{late:?}");
            let names = ["IPv4", "IPv6"];
            assert!(!late.status[names[family]].healthy && late.status[names[other]].healthy);
        }
        // It is starting.
        let starting = progress([Some(since); 2], [None; 2]);
        let report = report(&starting, PATIENCE, since + 2 * PATIENCE, time);
        assert!(report.healthy && report.status.is_empty(), "{report:?}");
    }

    #[test]
    fn a_node_that_goes_is_not_eligible() {
        for (node, of_cluster, alone) in [
            (NodeState::Unknown, true, true),
            (NodeState::Eligible, true, true),
            (NodeState::Missing, false, true),
            (NodeState::Leaving, false, false),
            (NodeState::Gone, false, false),
        ] {
            for (has_nodes, expected) in [(true, of_cluster), (false, alone)] {
                let health = health(node, has_nodes);
                let status = health.healthz().unwrap().status();
                assert_eq!(status == StatusCode::OK, expected, "{node:?}, {has_nodes}");
                assert_eq!(health.livez().unwrap().status(), StatusCode::OK);
            }
        }
    }
}
