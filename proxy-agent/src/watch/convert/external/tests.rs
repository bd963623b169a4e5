// SPDX-License-Identifier: Apache-2.0
//! What of Services concerns the outside, field by field.

use serde_json::{Value, json};

use crate::{
    model::{Object, Service, TrafficPolicy},
    watch::{
        Event,
        api::{self},
        convert::Convert as _,
    },
};

/// A Service with these fields of `spec` and these ingresses, and the fields that were rejected.
fn read(spec: &Value, ingress: &Value) -> (Service, Vec<String>) {
    let mut whole = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "u1"},
        "spec": {
            "clusterIPs": ["10.0.0.1", "fd00::1"],
            "ports": [{"port": 80, "nodePort": 30080}],
        },
        "status": {"loadBalancer": {"ingress": ingress}},
    });
    for (field, value) in spec.as_object().unwrap() {
        whole["spec"][field] = value.clone();
    }
    let converted = serde_json::from_value::<api::Service>(whole).unwrap().convert().unwrap();
    let rejected = converted.rejected.iter().map(ToString::to_string).collect();
    let Event::Apply(Object::Service(service)) = converted.event else { panic!() };
    (service, rejected)
}

fn spec(spec: &Value) -> (Service, Vec<String>) {
    read(spec, &Value::Null)
}

fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

const NONE: [&str; 0] = [];

#[test]
fn node_ports_belong_to_two_types() {
    let node_port = |type_: &str| spec(&json!({"type": type_})).0.ports[0].node_port;
    for type_ in ["NodePort", "LoadBalancer"] {
        assert_eq!(node_port(type_).map(proxy_common::Port::number), Some(30_080), "{type_}");
    }
    assert_eq!(node_port("ClusterIP"), None);
    for none in [json!(0), Value::Null] {
        let ports = json!([{"port": 80, "nodePort": none}]);
        let (service, rejected) = spec(&json!({"type": "NodePort", "ports": ports}));
        assert_eq!((service.ports[0].node_port, rejected.len()), (None, 0));
    }
    let ports = json!([{"port": 80, "nodePort": 70_000}]);
    let (service, rejected) = spec(&json!({"type": "NodePort", "ports": ports}));
    assert_eq!((service.ports.len(), service.ports[0].node_port), (1, None));
    let error = "Service ns/web: spec.ports[0].nodePort: \"70000\" is not a port number";
    assert_eq!(rejected, [error]);
}

#[test]
fn external_ips_that_cannot_be_used_are_left_out() {
    let ips = json!([
        "192.0.2.1",
        "127.0.0.1",
        "fe80::1",
        "ff02::1",
        "0.0.0.0",
        "ten",
        "2001:db8::1",
        "192.0.2.1",
        "::ffff:192.0.2.9"
    ]);
    let (service, rejected) = spec(&json!({"externalIPs": ips}));
    assert_eq!(texts(&service.external_ips), ["192.0.2.1", "2001:db8::1"]);
    let expected = [
        "[1]: 127.0.0.1 is a loopback address",
        "[2]: fe80::1 is a link-local address",
        "[3]: ff02::1 is a multicast address",
        "[4]: 0.0.0.0 is the unspecified address",
        "[5]: \"ten\" is not an IP address",
        "[8]: ::ffff:192.0.2.9 is an IPv4-mapped address",
    ]
    .map(|line| format!("Service ns/web: spec.externalIPs{line}"));
    assert_eq!(rejected, expected);
}

#[test]
fn load_balancers_are_served_where_packets_come_unchanged() {
    let ingress = json!([
        {"ip": "192.0.2.1"},
        {"ip": "2001:db8::1", "ipMode": "VIP"},
        {"ip": "192.0.2.2", "ipMode": "Proxy"},
        {"ip": "2001:db8::2", "ipMode": "Proxy"},
        {"hostname": "lb.example"},
        {"ip": "192.0.2.3", "ipMode": "Vip"},
        {"ip": "169.254.0.1"},
        {"ip": "fe80::1"},
        {"ip": ""},
        {"ip": "192.0.2.1"},
    ]);
    let (service, rejected) = read(&json!({"type": "LoadBalancer"}), &ingress);
    assert_eq!(texts(&service.load_balancer_ips), ["192.0.2.1", "2001:db8::1"]);
    let expected = [
        "[5].ipMode: \"Vip\" is not VIP or Proxy",
        "[6].ip: 169.254.0.1 is a link-local address",
        "[7].ip: fe80::1 is a link-local address",
    ]
    .map(|line| format!("Service ns/web: status.loadBalancer.ingress{line}"));
    assert_eq!(rejected, expected);
}

#[test]
fn source_ranges_restrict_their_families() {
    let ranges = |list: Value| spec(&json!({"loadBalancerSourceRanges": list}));
    let (service, rejected) = ranges(json!([" 192.0.2.7/24 ", "10.0.0.0/8", "10.0.0.0/8"]));
    assert_eq!(texts(&service.source_ranges), ["10.0.0.0/8", "192.0.2.0/24"]);
    assert_eq!(rejected, NONE);
    let (service, _) = ranges(json!(["10.0.0.0/8", "fd00::/64", "0.0.0.0/0"]));
    assert_eq!(texts(&service.source_ranges), ["fd00::/64"]);
    let (service, _) = ranges(json!(["10.0.0.0/8", "fd00::/64", "::/0"]));
    assert_eq!(texts(&service.source_ranges), ["10.0.0.0/8"]);
    let (service, rejected) = ranges(json!(["10.0.0.0/8", "10.0.0.0/40", ""]));
    assert_eq!(texts(&service.source_ranges), ["10.0.0.0/8"]);
    let expected = ["[1]: \"10.0.0.0/40\"", "[2]: \"\""].map(|line| {
        let field = "Service ns/web: spec.loadBalancerSourceRanges";
        format!("{field}{line} is not an address and a prefix length")
    });
    assert_eq!(rejected, expected);
}

#[test]
fn the_external_policy_counts_where_the_outside_reaches_the_service() {
    let policy = |more: Value| {
        let mut whole = json!({"externalTrafficPolicy": "Local"});
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec(&whole).0.external_traffic_policy
    };
    for local in [
        json!({"type": "NodePort"}),
        json!({"type": "LoadBalancer"}),
        json!({"externalIPs": ["192.0.2.1"]}),
    ] {
        assert_eq!(policy(local.clone()), TrafficPolicy::Local, "{local}");
    }
    assert_eq!(policy(json!({})), TrafficPolicy::Cluster);
    let bad = json!({"type": "NodePort", "externalTrafficPolicy": "Near"});
    let (service, rejected) = spec(&bad);
    assert_eq!(service.external_traffic_policy, TrafficPolicy::Cluster);
    let error = "Service ns/web: spec.externalTrafficPolicy: \"Near\" is not Cluster or Local";
    assert_eq!(rejected, [error]);
}

#[test]
fn health_is_checked_at_local_load_balancers() {
    let port = |type_: &str, policy: &str, port: i32| {
        let (service, rejected) = spec(&json!({
            "type": type_, "externalTrafficPolicy": policy, "healthCheckNodePort": port,
        }));
        (service.health_check_node_port.map(proxy_common::Port::number), rejected.len())
    };
    assert_eq!(port("LoadBalancer", "Local", 32_000), (Some(32_000), 0));
    assert_eq!(port("LoadBalancer", "Local", 0), (None, 0));
    assert_eq!(port("LoadBalancer", "Local", -1), (None, 1));
    assert_eq!(port("LoadBalancer", "Cluster", 32_000), (None, 0));
    assert_eq!(port("NodePort", "Local", 32_000), (None, 0));
}

#[test]
fn affinity_has_a_time() {
    let affinity = |kind: &str, config: Value| {
        let whole = json!({"sessionAffinity": kind, "sessionAffinityConfig": config});
        let (service, rejected) = spec(&whole);
        (service.affinity.map(std::num::NonZeroU32::get), rejected)
    };
    let after = |seconds: i32| json!({"clientIP": {"timeoutSeconds": seconds}});
    assert_eq!(affinity("None", after(10)), (None, Vec::new()));
    assert_eq!(affinity("ClientIP", after(10)), (Some(10), Vec::new()));
    assert_eq!(affinity("ClientIP", after(86_400)), (Some(86_400), Vec::new()));
    for unsaid in [Value::Null, json!({}), json!({"clientIP": {}})] {
        assert_eq!(affinity("ClientIP", unsaid), (Some(10_800), Vec::new()));
    }
    for bad in [0, -1, 86_401] {
        let (seconds, rejected) = affinity("ClientIP", after(bad));
        assert_eq!((seconds, rejected.len()), (Some(10_800), 1), "{bad}");
    }
    let error = "Service ns/web: spec.sessionAffinity: \"Cookie\" is not None or ClientIP";
    assert_eq!(affinity("Cookie", Value::Null), (None, vec![error.to_owned()]));
}

#[test]
fn identity_is_kept() {
    assert_eq!(&*spec(&json!({})).0.uid, "u1");
}
