// SPDX-License-Identifier: Apache-2.0
//! Plans of whole Services: families, slices, duplicates, verdicts.

use std::collections::BTreeMap;

use proxy_common::{V4, V6, family::Address as _};

use super::*;
use crate::{
    both_families::in_both_families,
    model::{Endpoint, EndpointPort, ObjectName, TrafficPolicy, Trigger},
};

mod outside;
mod unusable;

in_both_families!(
    slices_are_united_and_duplicates_count_once,
    an_endpoint_that_serves_outside_of_every_set_is_kept,
    a_local_policy_drops_only_while_there_are_endpoints_elsewhere,
    a_ready_endpoint_that_terminates_is_served,
);

const NODE: NodeContext<'_> = NodeContext { name: "me", zone: None, addresses: &[] };

fn service(policy: TrafficPolicy) -> Service {
    Service {
        name: ObjectName::new("ns", "web"),
        created: Some(1),
        cluster_ips: vec!["fd00:10:96::1".parse().unwrap(), "10.96.0.1".parse().unwrap()],
        internal_traffic_policy: policy,
        ports: [("dns", Protocol::UDP, 53), ("dns-tcp", Protocol::TCP, 53)]
            .map(|(name, protocol, port)| ServicePort {
                name: name.into(),
                protocol,
                port: Port::new(port),
                node_port: None,
            })
            .to_vec(),
        ..Service::default()
    }
}

fn slice(port: (&str, Protocol, u16), endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        name: ObjectName::new("ns", "web-1"),
        service: ObjectName::new("ns", "web"),
        endpoints,
        ports: vec![EndpointPort {
            name: port.0.into(),
            protocol: port.1,
            port: Port::new(port.2),
        }],
        unusable: BTreeMap::new(),
        trigger: Trigger::default(),
    }
}

fn endpoint(address: &str, [ready, serving, terminating]: [bool; 3]) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        ready,
        serving,
        terminating,
        node: None,
        hints: None,
    }
}

const READY: [bool; 3] = [true, true, false];
const READY_AND_ENDING: [bool; 3] = [true, true, true];
const DRAINING: [bool; 3] = [false, true, true];
const GONE: [bool; 3] = [false, false, false];

fn at<F: Family>(address: &str, port: u16) -> EndpointAddress<F> {
    EndpointAddress {
        address: F::Addr::from_ip(address.parse().unwrap()).unwrap(),
        port: Port::new(port),
    }
}

/// The address of the pod of this number.
fn address_of<F: Family>(pod: u8) -> String {
    let network = if F::INDEX == 0 { "10.0.0." } else { "fd00::" };
    format!("{network}{pod}")
}

fn pod<F: Family>(number: u8, conditions: [bool; 3]) -> Endpoint {
    endpoint(&address_of::<F>(number), conditions)
}

fn at_pod<F: Family>(number: u8, port: u16) -> EndpointAddress<F> {
    at(&address_of::<F>(number), port)
}

fn plan_of<F: Family>(service: &Service, slices: &[EndpointSlice]) -> ServicePlan<F> {
    let slices: Vec<_> = slices.iter().collect();
    plan(service, &slices, NODE, &Options::default()).unwrap()
}

#[test]
fn each_family_gets_its_own_endpoints_and_frontends() {
    let slices = [
        slice(("dns", Protocol::UDP, 5353), vec![endpoint("10.0.0.2", READY)]),
        slice(("dns", Protocol::UDP, 5353), vec![endpoint("fd00::2", READY)]),
    ];
    let service = service(TrafficPolicy::Cluster);
    let v4 = plan_of::<V4>(&service, &slices);
    let v6 = plan_of::<V6>(&service, &slices);
    let vip = at::<V4>("10.96.0.1", 53);
    // By number and protocol: TCP (6) is before UDP (17).
    let [tcp, udp] = &v4.ports[..] else { panic!() };
    assert_eq!(v4.vips, [vip.address]);
    let udp_key = FrontendKey::new(vip.address, vip.port, Protocol::UDP);
    assert_eq!(udp.frontends, [(udp_key, FrontendKind::ClusterIp)]);
    assert_eq!(udp.serving, [at("10.0.0.2", 5353)]);
    assert_eq!(tcp.serving, []);
    assert_eq!(tcp.cluster, Some(SetPlan::Empty(EmptySet::Reject)));
    assert_eq!(v6.ports[1].serving, [at("fd00::2", 5353)]);
}

#[test]
fn a_service_without_an_address_of_the_family_has_no_plan() {
    let mut service = service(TrafficPolicy::Cluster);
    service.cluster_ips.truncate(1);
    assert!(plan::<V4>(&service, &[], NODE, &Options::default()).is_none());
    assert!(plan::<V6>(&service, &[], NODE, &Options::default()).is_some());
}

fn slices_are_united_and_duplicates_count_once<F: Family>() {
    let port = ("dns", Protocol::UDP, 53);
    let other = ("dns", Protocol::UDP, 54);
    let slices = [
        slice(port, vec![pod::<F>(9, READY), pod::<F>(3, GONE)]),
        slice(port, vec![pod::<F>(3, READY), pod::<F>(9, GONE)]),
        // The address of a pod that terminates has gone to one that is not ready yet.
        slice(port, vec![pod::<F>(4, DRAINING)]),
        slice(port, vec![pod::<F>(4, GONE)]),
        // Even if that one, being published while it is not ready, counts as ready.
        slice(port, vec![pod::<F>(5, READY_AND_ENDING)]),
        slice(port, vec![pod::<F>(5, GONE)]),
        slice(other, vec![pod::<F>(3, READY)]),
        slice(("dns", Protocol::TCP, 53), vec![pod::<F>(7, READY)]),
    ];
    let plan = plan_of::<F>(&service(TrafficPolicy::Cluster), &slices);
    let all = vec![at_pod(3, 53), at_pod(3, 54), at_pod(9, 53)];
    assert_eq!(plan.ports[1].serving, all);
    assert_eq!(plan.ports[1].cluster, Some(SetPlan::Endpoints(all)));
}

fn an_endpoint_that_serves_outside_of_every_set_is_kept<F: Family>() {
    let slices = [slice(
        ("dns", Protocol::UDP, 53),
        vec![pod::<F>(1, READY), pod::<F>(2, DRAINING), pod::<F>(3, GONE)],
    )];
    let plan = plan_of::<F>(&service(TrafficPolicy::Cluster), &slices);
    let udp = &plan.ports[1];
    assert_eq!(udp.cluster, Some(SetPlan::Endpoints(vec![at_pod(1, 53)])));
    assert_eq!(udp.serving, [at_pod(1, 53), at_pod(2, 53)]);
}

fn a_local_policy_drops_only_while_there_are_endpoints_elsewhere<F: Family>() {
    let service = service(TrafficPolicy::Local);
    let port = ("dns", Protocol::UDP, 53);
    let verdict = |conditions| {
        let slices = [slice(port, vec![pod::<F>(1, conditions)])];
        let plan = plan_of::<F>(&service, &slices);
        assert_eq!(plan.ports[1].policy, Policy::INTERNAL_LOCAL);
        assert_eq!(plan.ports[1].cluster, None);
        plan.ports[1].local.clone()
    };
    assert_eq!(verdict(READY), Some(SetPlan::Empty(EmptySet::Drop)));
    assert_eq!(verdict(DRAINING), Some(SetPlan::Empty(EmptySet::Drop)));
    assert_eq!(verdict(GONE), Some(SetPlan::Empty(EmptySet::Reject)));
}

/// As with `publishNotReadyAddresses`: it is used like any other.
fn a_ready_endpoint_that_terminates_is_served<F: Family>() {
    let port = ("dns", Protocol::UDP, 53);
    let slices = [slice(port, vec![pod::<F>(1, READY_AND_ENDING), pod::<F>(2, DRAINING)])];
    let plan = plan_of::<F>(&service(TrafficPolicy::Cluster), &slices);
    let udp = &plan.ports[1];
    assert_eq!(udp.cluster, Some(SetPlan::Endpoints(vec![at_pod(1, 53)])));
    assert_eq!(udp.serving, [at_pod(1, 53), at_pod(2, 53)]);
}

#[test]
fn sockets_reach_ipv4_endpoints_only_where_there_are_no_others() {
    let service = service(TrafficPolicy::Cluster);
    let port = ("dns", Protocol::UDP, 53);
    let v4 = || slice(port, vec![endpoint("10.0.0.1", READY), endpoint("10.0.0.2", GONE)]);
    let v6 = |conditions| slice(port, vec![endpoint("fd00::1", conditions)]);
    let udp = |slices: &[EndpointSlice], reach| {
        let slices: Vec<_> = slices.iter().collect();
        let options = Options { reach, ..Options::default() };
        let plan: ServicePlan<V6> = plan(&service, &slices, NODE, &options).unwrap();
        plan.ports[1].clone()
    };
    let mapped = vec![at("::ffff:10.0.0.1", 53)];
    for nothing_usable in [vec![v4()], vec![v4(), v6(GONE)]] {
        let reached = udp(&nothing_usable, Reach::Sockets);
        assert_eq!(reached.cluster, Some(SetPlan::Endpoints(mapped.clone())));
        assert_eq!((reached.serving, reached.sockets_only), (mapped.clone(), true));
        let unreached = udp(&nothing_usable, Reach::Family);
        assert_eq!(unreached.cluster, Some(SetPlan::Empty(EmptySet::Reject)));
        assert!(!unreached.sockets_only);
    }
    for usable in [READY, DRAINING] {
        let own = udp(&[v4(), v6(usable)], Reach::Sockets);
        assert_eq!(own.cluster, Some(SetPlan::Endpoints(vec![at("fd00::1", 53)])));
        assert!(!own.sockets_only);
    }
    let none = udp(&[], Reach::Sockets);
    assert_eq!(none.cluster, Some(SetPlan::Empty(EmptySet::Reject)));
    assert!(!none.sockets_only);
    let v4_plan = plan_of::<V4>(&service, &[v6(READY)]);
    assert_eq!(v4_plan.ports[1].cluster, Some(SetPlan::Empty(EmptySet::Reject)));
}
