// SPDX-License-Identifier: Apache-2.0
//! Requests to every ClusterIP of the recorded Services, from a pod on each node and from a node.

mod question;

use std::{net::SocketAddr, thread};

use proxy_tests::{family::IpFamily, protocol::Protocol};

use super::{
    asker::Asker,
    cluster::{self, Cluster},
    progress::Part,
    recorded::{Expected, Recorded, ServicePort},
    verdict::Problems,
};
use question::Question;
pub(super) use question::{Outcome, Seen};

/// The Service ports whose rows are shown, each for what it shows; of the others, only those
/// with problems are. Balance needs many requests to be seen.
const SHOWN: [(&str, &str); 13] = [
    ("fixed-ips", "80/TCP"),
    ("require-64", "80/TCP"),
    ("single-v6", "80/TCP"),
    ("multi", "443/TCP"),
    ("multi", "53/UDP"),
    ("named", "80/TCP"),
    ("nodeport", "80/TCP"),
    ("terminating", "80/TCP"),
    ("internal-local", "80/TCP"),
    ("same-zone", "80/TCP"),
    ("no-endpoints", "80/TCP"),
    (WRONG_PORT_OF, "81/TCP (none)"),
    (WRONG_PORT_OF, "81/UDP (none)"),
];

/// The Service that is also asked on ports that it does not have.
const WRONG_PORT_OF: &str = "fixed-ips";
const WRONG_PORT: u16 = 81;

/// How many requests a client sends to a Service port, where its row is shown and where not.
const REQUESTS_SHOWN: usize = 120;
const REQUESTS: usize = 30;

/// What all clients saw of a Service port in one family.
pub(super) struct Row {
    pub(super) service: String,
    /// `80/TCP`, or `81/TCP (none)` for one that it does not have.
    pub(super) port: String,
    pub(super) family: IpFamily,
    /// By client, in the order of [`Asker::ALL`].
    pub(super) seen: Vec<Seen>,
}

impl Row {
    /// Whether the row is for people; the others are summed up.
    pub(super) fn is_shown(&self) -> bool {
        is_shown(&self.service, &self.port) || self.seen.iter().any(|seen| seen.problem.is_some())
    }
}

/// Asks all Services.
pub(super) fn run(cluster: &Cluster<'_>, recorded: &Recorded, problems: &mut Problems) -> Vec<Row> {
    let questions = questions(cluster, recorded);
    let part = Part::new(
        "requests to the ClusterIPs of all recorded Services, from a pod on each node and from a node",
        questions.len() * Asker::ALL.len(),
    );
    let seen: Vec<Vec<_>> = thread::scope(|scope| {
        let (part, questions) = (&part, &questions);
        let clients: Vec<_> = Asker::ALL
            .into_iter()
            .enumerate()
            .map(|(number, asker)| {
                let ask = move |question: &Question<'_>| {
                    part.on(question.service.name());
                    let seen = question.ask(cluster, asker, number);
                    part.done();
                    seen
                };
                scope.spawn(move || questions.iter().map(ask).collect::<Vec<_>>())
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client panicked")).collect()
    });
    drop(part);
    for problem in seen.iter().flatten().filter_map(|seen| seen.problem.as_ref()) {
        problems.add(problem);
    }
    let mut by_client: Vec<_> = seen.into_iter().map(Vec::into_iter).collect();
    let row = |question: &Question<'_>| Row {
        service: question.service.name().to_owned(),
        port: question.port.clone(),
        family: question.family(),
        seen: by_client.iter_mut().filter_map(Iterator::next).collect(),
    };
    questions.iter().map(row).collect()
}

/// All ports of all Services that this proxy serves and whose endpoints are pods of ours.
fn questions<'a>(cluster: &Cluster<'_>, recorded: &'a Recorded) -> Vec<Question<'a>> {
    let wrong = |protocol: Protocol| ServicePort {
        name: "wrong".to_owned(),
        protocol: protocol.name().to_owned(),
        port: WRONG_PORT,
    };
    let wrong = Protocol::OF_SOCKETS.map(wrong);
    let mut questions = Vec::new();
    for service in &recorded.services {
        let wrong = wrong.iter().filter(|_| service.name() == WRONG_PORT_OF);
        for port in service.ports().iter().chain(wrong) {
            let Some(protocol) = cluster::protocol(&port.protocol) else { continue };
            for cluster_ip in service.cluster_ips() {
                let family = IpFamily::of(cluster_ip).name();
                let expected =
                    Asker::ALL.map(|asker| recorded.expected(service, port, family, asker.node()));
                let ours = expected.iter().all(|expected| match expected {
                    Expected::Served(pods) => pods.iter().all(|ip| cluster.pod_at(*ip).is_some()),
                    Expected::Refused | Expected::Dropped => true,
                });
                if ours {
                    let none = if port.port == WRONG_PORT { " (none)" } else { "" };
                    let port_name = format!("{}/{}{none}", port.port, port.protocol);
                    let shown = is_shown(service.name(), &port_name);
                    questions.push(Question {
                        service,
                        port: port_name,
                        protocol,
                        requests: if shown { REQUESTS_SHOWN } else { REQUESTS },
                        target: SocketAddr::new(cluster_ip, port.port),
                        expected: expected.into(),
                    });
                }
            }
        }
    }
    questions
}

fn is_shown(service: &str, port: &str) -> bool {
    SHOWN.contains(&(service, port))
}
