// SPDX-License-Identifier: Apache-2.0
//! Requests from outside the cluster, to every node port at each node, and to every load balancer's
//! address and external IP through each node.
//!
//! A machine of the nodes' network asks at each node, and has a route to it for addresses that
//! nobody has; one from afar, behind the first of these, is in no source range.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::Result;
use proxy_tests::{
    family::{DualAddress, IpFamily},
    manifests::{Endpoint, Service},
    protocol::Protocol,
};
use serde_json::json;

use super::{
    asker::Asker,
    cluster::{Cluster, NODES},
    recorded::{Recorded, Way},
    requests::{self, Question, Row},
    verdict::Problems,
};

/// The ways whose rows are shown, each for what it shows; of the others, only those with problems
/// are.
const SHOWN: [(&str, &str); 10] = [
    ("external-ips", "external IP 80/TCP"),
    ("lb", "load balancer 80/TCP"),
    ("lb-local", "load balancer 80/TCP"),
    ("lb-proxymode", "load balancer 80/TCP"),
    ("lb-ranges", "load balancer 80/TCP"),
    ("no-endpoints-np", "node port 30099/TCP"),
    (ASKED_BY_HAND, "node port 30080/TCP"),
    ("nodeport-local", "node port 30081/TCP"),
    ("nodeport-local-far", "node port 30082/TCP"),
    (UDP, "node port 30053/UDP"),
];

/// The Service whose node port people are told to ask.
const ASKED_BY_HAND: &str = "nodeport";

/// The demo's own Service: none of the recorded ones is reached from outside by UDP. Its pods serve
/// the port for recorded Services in any case, one on each node.
const UDP: &str = "udp-outside";
const UDP_CLUSTER_IP: DualAddress = DualAddress::cluster_ip(202);
const UDP_LOAD_BALANCER: DualAddress = DualAddress {
    v4: Ipv4Addr::new(192, 168, 70, 20),
    v6: Ipv6Addr::new(0xfd00, 0x70, 0, 0, 0, 0, 0, 0x20),
};
const UDP_ENDPOINTS: [(&str, DualAddress); 2] =
    [(NODES[0].0, DualAddress::pod(1, 12)), (NODES[1].0, DualAddress::pod(2, 23))];

/// The Service that is reached from outside by UDP.
pub(super) fn service() -> Service {
    let endpoint = |(node, address): (&str, DualAddress)| {
        Endpoint::at(IpFamily::ALL.map(|family| address.of(family))).field("nodeName", json!(node))
    };
    Service::dual(UDP, UDP_CLUSTER_IP)
        .port("dns", Protocol::Udp, 53, 5353)
        .node_port(30053)
        .load_balancer(IpFamily::ALL.map(|family| UDP_LOAD_BALANCER.of(family)))
        .endpoints(UDP_ENDPOINTS.map(endpoint))
}

/// Asks all Services that are reached from outside.
///
/// # Errors
///
/// If the machines cannot be given routes.
pub(super) fn run(
    cluster: &Cluster<'_>,
    recorded: &Recorded,
    problems: &mut Problems,
) -> Result<Vec<Row>> {
    let addresses: BTreeSet<_> = ways(recorded).filter_map(|way| way.frontend.address()).collect();
    // The one from afar has its routes through the first.
    for asker in [Asker::Outside(0), Asker::Outside(1)] {
        for address in &addresses {
            asker.host(cluster).send_through(*address, asker.node(cluster).host())?;
        }
    }
    let questions: Vec<_> = ways(recorded)
        .filter_map(|way| Question::new(cluster, recorded, &Asker::OUTSIDE, &way))
        .map(|question| question.shown_if_in(&SHOWN))
        .collect();
    Ok(requests::run(
        "requests from outside, to node ports, load balancers and external IPs at each node",
        cluster,
        &Asker::OUTSIDE,
        &questions,
        problems,
    ))
}

/// The node port that people are told to ask from a machine outside, in each family.
pub(super) fn targets(
    cluster: &Cluster<'_>,
    recorded: &Recorded,
    asker: Asker,
) -> impl Iterator<Item = SocketAddr> {
    let node = asker.node(cluster).host();
    let by_hand = ways(recorded).filter(|way| way.service.name() == ASKED_BY_HAND);
    by_hand.map(move |way| way.target(node))
}

/// All ways from outside to all Services.
fn ways(recorded: &Recorded) -> impl Iterator<Item = Way<'_>> {
    recorded.services.iter().flat_map(|service| {
        service.ports().iter().flat_map(move |port| {
            let frontends = service.outside_frontends(port);
            frontends.into_iter().map(move |frontend| Way { service, port, frontend })
        })
    })
}
