// SPDX-License-Identifier: Apache-2.0
//! A Service gets other endpoints while clients ask it without pause.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use proxy_tests::{
    family::IpFamily,
    traffic::{Answer, Client, Failure, Shares},
};
use serde_json::{Value, json};

use crate::progress::Part;

use super::{
    cluster::{Cluster, NODES},
    recorded::{self, Recorded},
    verdict::Problems,
};

/// The recorded Service that is scaled, its port, and the pods behind it at first.
pub(super) const SERVICE: &str = "fixed-ips";
const PORT: u16 = 80;
const AT_FIRST: [&str; 3] = ["a12", "a13", "a14"];

/// The pods behind it after each step.
const STEPS: [&[&str]; 4] =
    [&["a12", "a13", "a14", "b21", "b23"], &["a13", "b21"], &["b22"], &AT_FIRST];

/// How long each step is looked at, and after which part of that it must have had its effect.
const STEP: Duration = Duration::from_millis(1500);
const SETTLED: Duration = Duration::from_millis(600);

/// What a step did.
pub(super) struct Step {
    /// `3 → 5`.
    pub(super) what: String,
    pub(super) requests: usize,
    pub(super) failures: usize,
    /// How often each pod answered once the step had had its effect.
    pub(super) settled: BTreeMap<String, usize>,
    /// From writing the file to the first answer of the last new pod.
    pub(super) first_answer: Option<Duration>,
    /// From writing the file to the last request that a removed pod got.
    pub(super) last_request: Option<Duration>,
}

/// A request that was answered, or not.
struct Request {
    asked: Instant,
    answered: Instant,
    result: Result<Answer, Failure>,
}

impl Request {
    fn is_answered_by(&self, pod: &str) -> bool {
        self.result.as_ref().is_ok_and(|answer| answer.server == pod)
    }
}

/// The Service's port on its cluster IPs.
pub(super) fn targets(recorded: &Recorded) -> impl Iterator<Item = SocketAddr> {
    let service = recorded.services.iter().filter(|service| service.name() == SERVICE);
    service.flat_map(|service| service.cluster_ips().map(|ip| SocketAddr::new(ip, PORT)))
}

/// Scales the Service up, down, to another pod, and back.
///
/// # Errors
///
/// If its EndpointSlices cannot be written.
pub(super) fn run(
    cluster: &Cluster<'_>,
    recorded: &Recorded,
    problems: &mut Problems,
) -> Result<Vec<Step>> {
    let part = Part::new(
        format_args!("scaling the Service {SERVICE} while all clients ask it"),
        STEPS.len(),
    );
    let slices = fs::read(recorded::folder().join(recorded::SLICES))?;
    let slices: Value = serde_json::from_slice(&slices)?;

    let ending = AtomicBool::new(false);
    let (requests, written) = thread::scope(|scope| {
        let mut clients = Vec::new();
        for (_, _, client) in NODES {
            for target in targets(recorded) {
                let client = Client::new(cluster.topology.pod(client));
                let ending = &ending;
                clients.push(scope.spawn(move || ask_until(ending, client, target)));
            }
        }
        let written = STEPS.iter().map(|pods| {
            part.on(pods.join(", "));
            let slices = with_endpoints(slices.clone(), cluster, pods);
            let now = Instant::now();
            cluster.manifests.write(recorded::SLICES, &slices.to_string())?;
            thread::sleep(STEP);
            part.done();
            Ok(now)
        });
        let written: Result<Vec<_>> = written.collect();
        ending.store(true, Ordering::Relaxed);
        let join = |client: thread::ScopedJoinHandle<'_, _>| client.join().expect("it panicked");
        let requests: Vec<Request> = clients.into_iter().flat_map(join).collect();
        (requests, written)
    });
    drop(part);
    Ok(judge(&written?, requests, problems))
}

/// Looks at the requests of each step, all of which have their time of writing in `written`.
fn judge(written: &[Instant], requests: Vec<Request>, problems: &mut Problems) -> Vec<Step> {
    let mut of_steps: Vec<Vec<Request>> = written.iter().map(|_| Vec::new()).collect();
    for request in requests {
        // What was asked before the first step counts there: it may not fail either.
        let step = written.partition_point(|written| *written <= request.asked).saturating_sub(1);
        of_steps[step].push(request);
    }
    let before = [&AT_FIRST[..]].into_iter().chain(STEPS);
    before
        .zip(STEPS)
        .zip(written.iter().zip(of_steps))
        .map(|((before, after), (written, requests))| {
            step(before, after, *written, requests, problems)
        })
        .collect()
}

/// The pods of `after` that are not in `before`.
fn added<'a>(before: &'a [&str], after: &'a [&str]) -> impl Iterator<Item = &'a str> {
    after.iter().copied().filter(|pod| !before.contains(pod))
}

fn step(
    before: &[&str],
    after: &[&str],
    written: Instant,
    requests: Vec<Request>,
    problems: &mut Problems,
) -> Step {
    let since = |instant: Instant| instant.saturating_duration_since(written);
    let answered_by = |pod| requests.iter().filter(move |request| request.is_answered_by(pod));
    let first_answer = added(before, after)
        .filter_map(|pod| answered_by(pod).map(|request| since(request.answered)).min())
        .max();
    // The pods that are added on the way back are those that were removed.
    let last_request = added(after, before)
        .filter_map(|pod| answered_by(pod).map(|request| since(request.asked)).max())
        .max();

    let what = format!("{} → {}", before.len(), after.len());
    let count = requests.len();
    let failures: Vec<_> =
        requests.iter().filter_map(|request| request.result.as_ref().err()).collect();
    let failed = failures.len();
    if let Some(failure) = failures.first() {
        problems.add(format!("scaling {what}: {failed} of {count} requests failed: {failure}"));
    }
    let settled = requests.into_iter().filter(|request| request.asked > written + SETTLED);
    let settled: Shares = settled.map(|request| request.result).collect();
    if failed == 0 && !settled.is_fair(after) {
        let after = after.join(", ");
        problems.add(format!("scaling {what}: of {after} in equal shares, answered: {settled}"));
    }
    Step {
        what,
        requests: count,
        failures: failed,
        settled: settled.answers,
        first_answer,
        last_request,
    }
}

/// Asks without pause.
fn ask_until(ending: &AtomicBool, client: Client<'_>, target: SocketAddr) -> Vec<Request> {
    let mut requests = Vec::new();
    while !ending.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let result = client.get(target);
        requests.push(Request { asked, answered: Instant::now(), result });
    }
    requests
}

/// The recorded EndpointSlices, with `pods` behind the Service.
fn with_endpoints(mut slices: Value, cluster: &Cluster<'_>, pods: &[&str]) -> Value {
    let items = slices["items"].as_array_mut().into_iter().flatten();
    for slice in
        items.filter(|slice| slice["metadata"]["labels"][recorded::SERVICE_NAME] == SERVICE)
    {
        let family = IpFamily::ALL.into_iter().find(|f| slice["addressType"] == f.name());
        let endpoints = family.into_iter().flat_map(|family| {
            pods.iter().map(move |pod| {
                let pod = cluster.topology.pod(pod);
                json!({
                    "addresses": [pod.address(family)],
                    "conditions": { "ready": true, "serving": true, "terminating": false },
                    "nodeName": pod.node(),
                })
            })
        });
        slice["endpoints"] = endpoints.collect();
    }
    slices
}
