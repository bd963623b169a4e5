// SPDX-License-Identifier: Apache-2.0
//! Endpoints that are not served, beside those that are.

use super::*;
use crate::{both_families::in_both_families, plan};

in_both_families!(
    the_services_own_cluster_ip_is_no_endpoint,
    other_addresses_of_the_service_may_be_those_of_nodes,
);

/// The text of the family.
fn of<F: Family>(texts: [&'static str; 2]) -> &'static str {
    texts[F::INDEX as usize]
}

const OWN: [&str; 2] = ["10.96.0.1", "fd00:10:96::1"];
const POD: [&str; 2] = ["10.0.0.2", "fd00::2"];

/// A slice of the port `dns` with these endpoints.
fn dns(addresses: &[&str]) -> EndpointSlice {
    let endpoints = addresses.iter().map(|address| endpoint(address, READY)).collect();
    slice(("dns", Protocol::UDP, 5353), endpoints)
}

fn the_services_own_cluster_ip_is_no_endpoint<F: Family>() {
    let service = service(TrafficPolicy::Cluster);
    let (own, pod) = (of::<F>(OWN), of::<F>(POD));
    let slices = [dns(&[own, pod])];
    let plan = plan_of::<F>(&service, &slices);
    let udp = &plan.ports[1];
    assert_eq!(udp.serving, [at(pod, 5353)]);
    assert_eq!(udp.cluster, Some(SetPlan::Endpoints(vec![at(pod, 5353)])));
    let found = plan::unusable(&service, slices.iter()).unwrap();
    assert_eq!(found.to_string(), format!("1 endpoint: {own} is the Service's own cluster IP"));
    // Alone, it is as if there were none. Another Service's is an address as any.
    let alone = plan_of::<F>(&service, &[dns(&[own])]);
    assert_eq!(alone.ports[1].cluster, Some(SetPlan::Empty(EmptySet::Reject)));
    let mut other = service;
    other.cluster_ips = vec!["10.96.0.9".parse().unwrap(), "fd00:10:96::9".parse().unwrap()];
    assert_eq!(plan_of::<F>(&other, &slices).ports[1].serving.len(), 2);
    assert_eq!(plan::unusable(&other, slices.iter()), None);
}

fn other_addresses_of_the_service_may_be_those_of_nodes<F: Family>() {
    let node = of::<F>(["192.0.2.1", "2001:db8::1"]);
    let addresses = vec![node.parse().unwrap()];
    let service = Service {
        external_ips: addresses.clone(),
        load_balancer_ips: addresses,
        ..service(TrafficPolicy::Cluster)
    };
    let slices = [dns(&[node])];
    assert_eq!(plan_of::<F>(&service, &slices).ports[1].serving, [at(node, 5353)]);
    assert_eq!(plan::unusable(&service, slices.iter()), None);
}

#[test]
fn all_slices_are_looked_at() {
    let service = service(TrafficPolicy::Cluster);
    let mut slices = [dns(&OWN), dns(&POD), dns(&[OWN[0]])];
    let special = |text: &str, what| (text.parse::<std::net::IpAddr>().unwrap(), what);
    slices[1].unusable = BTreeMap::from([special("127.0.0.1", "a loopback address")]);
    slices[2].unusable = BTreeMap::from([
        special("ff02::1", "a multicast address"),
        special("127.0.0.1", "a loopback address"),
    ]);
    let found = plan::unusable(&service, slices.iter()).unwrap();
    assert_eq!(
        found.to_string(),
        "4 endpoints: 10.96.0.1 is the Service's own cluster IP, 127.0.0.1 is a loopback address, \
         fd00:10:96::1 is the Service's own cluster IP, ff02::1 is a multicast address"
    );
}
