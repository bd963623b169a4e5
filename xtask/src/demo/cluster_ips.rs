// SPDX-License-Identifier: Apache-2.0
//! Requests to every ClusterIP of the Services, from a pod on each node and from a node.

use proxy_tests::protocol::Protocol;

use super::{
    asker::Asker,
    cluster::Cluster,
    recorded::{Frontend, Recorded, ServicePort, Way},
    requests::{self, Question, Row},
    verdict::Problems,
};

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

/// Asks all Services.
pub(super) fn run(cluster: &Cluster<'_>, recorded: &Recorded, problems: &mut Problems) -> Vec<Row> {
    let wrong = Protocol::OF_SOCKETS.map(|protocol| ServicePort {
        name: "wrong".to_owned(),
        protocol: protocol.name().to_owned(),
        port: WRONG_PORT,
        node_port: None,
    });
    requests::run(
        "requests to the ClusterIPs of all recorded Services, from a pod on each node and from a node",
        cluster,
        &Asker::INSIDE,
        &questions(cluster, recorded, &wrong),
        problems,
    )
}

/// All ports of all Services that this proxy serves and whose endpoints are pods of ours, and
/// `wrong` ones.
fn questions<'a>(
    cluster: &Cluster<'_>,
    recorded: &'a Recorded,
    wrong: &'a [ServicePort],
) -> Vec<Question<'a>> {
    let mut questions = Vec::new();
    for service in &recorded.services {
        let ask = |port, cluster_ip| {
            let way = Way { service, port, frontend: Frontend::ClusterIp(cluster_ip) };
            Question::new(cluster, recorded, &Asker::INSIDE, &way)
        };
        for port in service.ports() {
            questions.extend(service.cluster_ips().filter_map(|ip| ask(port, ip)));
        }
        for port in wrong.iter().filter(|_| service.name() == WRONG_PORT_OF) {
            let asked = service.cluster_ips().filter_map(|ip| ask(port, ip));
            questions.extend(asked.map(Question::without_port));
        }
    }
    questions.into_iter().map(|question| question.shown_if_in(&SHOWN)).collect()
}
