// SPDX-License-Identifier: Apache-2.0
//! What becomes of objects, field by field.

use std::time::{Duration, SystemTime};

use proxy_common::{V4, V6};
use serde_json::{Value, json};

use super::*;
use crate::{
    model::{EndpointSlice, Object, Service, TrafficPolicy},
    watch::api,
};

fn convert<K: Convert>(object: &Value) -> Result<Converted, Rejected> {
    serde_json::from_value::<K>(object.clone()).unwrap().convert()
}

fn api_service(spec: &Value) -> Value {
    json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec})
}

fn service(spec: &Value) -> Result<Option<Service>, String> {
    let converted = convert::<api::Service>(&api_service(spec));
    match converted.map_err(|rejected| rejected.to_string())?.event {
        Event::Apply(Object::Service(service)) => Ok(Some(service)),
        Event::Delete(_) => Ok(None),
        other => panic!("{other:?}"),
    }
}

fn ips(spec: &Value) -> Result<Vec<String>, String> {
    let service = service(spec)?.unwrap();
    Ok(service.cluster_ips.iter().map(ToString::to_string).collect())
}

#[test]
fn services_without_a_cluster_ip_are_none() {
    for spec in [
        json!({"clusterIP": "None", "clusterIPs": ["None"]}),
        json!({"clusterIP": ""}),
        json!({}),
        json!({"type": "ExternalName", "clusterIP": "10.0.0.1"}),
        json!({"type": "ExternalName", "clusterIP": "fd00::1"}),
    ] {
        assert_eq!(service(&spec), Ok(None), "{spec}");
    }
    let mut other = api_service(&json!({"clusterIP": "10.0.0.1"}));
    other["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": ""});
    let event = convert::<api::Service>(&other).unwrap().event;
    assert!(matches!(event, Event::Delete(key) if key.to_string() == "Service ns/web"));
}

#[test]
fn cluster_ips_are_taken_by_family() {
    let dual = json!({
        "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
        "ipFamilies": ["IPv4", "IPv6"],
    });
    let both = vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()];
    assert_eq!(ips(&dual), Ok(both.clone()));
    assert_eq!(ips(&json!({"clusterIPs": ["10.0.0.1", "fd00::1"]})), Ok(both));
    assert_eq!(ips(&json!({"clusterIP": "fd00::1"})), Ok(vec!["fd00::1".to_owned()]));
    let crossed = json!({"clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv6"]});
    assert_eq!(
        ips(&crossed).unwrap_err(),
        "Service ns/web: spec.clusterIPs[0]: \"10.0.0.1\" is not of the family that \
         spec.ipFamilies names there"
    );
    let twice = json!({"clusterIPs": ["10.0.0.1", "10.0.0.2"]});
    assert_eq!(ips(&twice).unwrap_err(), "Service ns/web: spec.clusterIPs[1]: is there twice");
}

#[test]
fn a_service_says_what_is_wrong_with_it() {
    let with = |field: &str, value: Value| {
        let mut spec = json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80}]});
        *spec.pointer_mut(field).unwrap_or(&mut Value::Null) = value.clone();
        if let Some(name) = field.strip_prefix("/new/") {
            spec[name] = value;
        }
        service(&spec).unwrap_err()
    };
    for (field, value, error) in [
        ("/clusterIP", json!("ten"), "spec.clusterIP: \"ten\" is not an IP address"),
        ("/clusterIP", json!("127.0.0.1"), "spec.clusterIP: 127.0.0.1 is a loopback address"),
        ("/ports/0/port", json!(0), "spec.ports[0].port: \"0\" is not a port number"),
        ("/ports/0/port", json!(65536), "spec.ports[0].port: \"65536\" is not a port number"),
        (
            "/ports",
            json!([{"port": 1}, {"port": 1, "name": "x"}]),
            "spec.ports[1].port: is there twice",
        ),
        ("/ports", json!([{"port": 1}, {"port": 2}]), "spec.ports[1].name: is there twice"),
        (
            "/ports/0",
            json!({"port": 80, "protocol": "tcp"}),
            "spec.ports[0].protocol: \"tcp\" is not TCP, UDP or SCTP",
        ),
        (
            "/new/internalTrafficPolicy",
            json!("Near"),
            "spec.internalTrafficPolicy: \"Near\" is not Cluster or Local",
        ),
    ] {
        assert_eq!(with(field, value), format!("Service ns/web: {error}"));
    }
    let nameless = convert::<api::Service>(&json!({"metadata": {}})).unwrap_err();
    assert_eq!(nameless.field, "metadata.name");
}

#[test]
fn defaults_are_filled_in() {
    let spec = json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80}]});
    let found = service(&spec).unwrap().unwrap();
    assert_eq!(found.internal_traffic_policy, TrafficPolicy::Cluster);
    assert_eq!(found.created, None);
    assert_eq!((&*found.ports[0].name, found.ports[0].protocol), ("", proxy_common::Protocol::TCP));
    let object = json!({"metadata": {"name": "x"}, "spec": spec});
    let Event::Apply(object) = convert::<api::Service>(&object).unwrap().event else { panic!() };
    assert_eq!(object.key().to_string(), "Service default/x");
}

fn api_slice(family: &str, endpoints: &Value) -> Value {
    json!({
        "metadata": {
            "name": "web-1", "namespace": "ns",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 80}, {"name": "all"}, {"name": "bad", "port": -1}],
    })
}

fn slice(object: &Value) -> (Option<EndpointSlice>, Vec<String>) {
    let converted = convert::<api::EndpointSlice>(object).unwrap();
    let rejected = converted.rejected.iter().map(ToString::to_string);
    let slice = match converted.event {
        Event::Apply(Object::EndpointSlice(slice)) => Some(slice),
        _ => None,
    };
    (slice, rejected.collect())
}

#[test]
fn a_slice_may_tell_what_it_was_changed_for() {
    for family in ["IPv4", "IPv6"] {
        let trigger = |time: Value| {
            let mut object = api_slice(family, &json!([]));
            object["metadata"]["annotations"] =
                json!({ "endpoints.kubernetes.io/last-change-trigger-time": time, "other": "x" });
            slice(&object).0.unwrap().trigger
        };
        let told = trigger(json!("2026-11-21T00:40:43.25Z"));
        let expected = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_221_643_250);
        assert_eq!((told.at, told.family), (Some(expected), family));
        assert_eq!(trigger(json!("2026-11-21T01:40:43.250+01:00")).at, Some(expected));
        for none in [json!("yesterday"), json!(""), Value::Null] {
            assert_eq!(trigger(none).at, None);
        }
    }
}

#[test]
fn bad_endpoints_and_ports_are_left_out_and_reported() {
    for (family, special, other, good) in [
        (
            "IPv4",
            ["127.0.0.1", "169.254.0.1", "224.0.0.1", "0.0.0.0", "::ffff:10.0.0.1"],
            "fd00::1",
            "10.0.0.1",
        ),
        ("IPv6", ["::1", "fe80::1", "ff05::1", "::", "::ffff:10.0.0.1"], "10.0.0.1", "fd00::1"),
    ] {
        bad_ones_are_left_out(family, special, other, good);
    }
}

/// A slice of one family with an address of each special kind, one of the other family, and one that
/// can be used.
fn bad_ones_are_left_out(family: &str, special: [&str; 5], other: &str, good: &str) {
    let kinds = [
        "a loopback address",
        "a link-local address",
        "a multicast address",
        "the unspecified address",
        "an IPv4-mapped address",
    ];
    let addresses = special.into_iter().chain([other, "host", good]);
    let mut endpoints: Vec<_> =
        addresses.map(|address| json!({"addresses": [address, "junk"]})).collect();
    endpoints.push(json!({"addresses": []}));
    let (found, rejected) = slice(&api_slice(family, &json!(endpoints)));
    let found = found.unwrap();
    let used: Vec<_> = found.endpoints.iter().map(|used| used.address.to_string()).collect();
    assert_eq!(used, [good]);
    assert_eq!(found.ports.len(), 1, "a port without a number is none");
    let unusable: Vec<_> = found.unusable.iter().map(|(ip, is)| format!("{ip} {is}")).collect();
    let named = special.into_iter().zip(kinds);
    let mut expected: Vec<_> = named
        .clone()
        .map(|(ip, is)| (ip.parse::<IpAddr>().unwrap(), format!("{ip} {is}")))
        .collect();
    expected.sort();
    assert_eq!(unusable, expected.into_iter().map(|(_, text)| text).collect::<Vec<_>>());
    let mut expected: Vec<_> = (0..)
        .zip(named)
        .map(|(at, (ip, is))| format!("endpoints[{at}].addresses[0]: {ip} is {is}"))
        .collect();
    expected.extend([
        format!("endpoints[5].addresses[0]: \"{other}\" is not of the slice's addressType"),
        "endpoints[6].addresses[0]: \"host\" is not an IP address".to_owned(),
        "endpoints[8].addresses: missing".to_owned(),
        "ports[2].port: \"-1\" is not a port number".to_owned(),
    ]);
    let expected = expected.iter().map(|line| format!("EndpointSlice ns/web-1: {line}"));
    assert_eq!(rejected, expected.collect::<Vec<_>>());
}

#[test]
fn conditions_have_defaults_of_their_own() {
    let endpoints = json!([
        {"addresses": ["10.0.0.1"]},
        {"addresses": ["10.0.0.1"], "conditions": {}},
        {"addresses": ["10.0.0.1"], "conditions": {"ready": null, "serving": null, "terminating": null}},
        {"addresses": ["10.0.0.1"], "conditions": {"ready": false, "serving": false, "terminating": true}},
    ]);
    let (found, _) = slice(&api_slice("IPv4", &endpoints));
    let conditions: Vec<_> = found
        .unwrap()
        .endpoints
        .iter()
        .map(|endpoint| [endpoint.ready, endpoint.serving, endpoint.terminating])
        .collect();
    let default = [true, true, false];
    assert_eq!(conditions, [default, default, default, [false, false, true]]);
}

#[test]
fn slices_that_are_not_for_a_proxy_are_none() {
    for family in ["IPv4", "IPv6"] {
        let plain = api_slice(family, &Value::Null);
        assert_eq!(slice(&plain).0.unwrap().endpoints, []);
        let mut headless = plain.clone();
        headless["metadata"]["labels"]["service.kubernetes.io/headless"] = json!("");
        assert_eq!(slice(&headless), (None, Vec::new()));
        let mut orphan = plain;
        orphan["metadata"]["labels"] = json!({});
        let missing =
            "EndpointSlice ns/web-1: metadata.labels[kubernetes.io/service-name]: missing";
        assert_eq!(slice(&orphan), (None, vec![missing.to_owned()]));
    }
    let names = api_slice("FQDN", &json!([{"addresses": ["example.com"]}]));
    assert_eq!(slice(&names), (None, Vec::new()));
}

#[test]
fn nodes_have_addresses() {
    let node = json!({"metadata": {"name": "n"}, "status": {"addresses": [
        {"type": "ExternalIP", "address": "198.51.100.1"},
        {"type": "InternalIP", "address": "192.0.2.1"},
        {"type": "Hostname", "address": "n"},
        {"type": "InternalIP", "address": "2001:db8::1"},
        {"type": "ExternalIP", "address": "n.example"},
    ]}});
    let converted = convert::<api::Node>(&node).unwrap();
    let Event::Apply(Object::Node(node)) = converted.event else { panic!() };
    let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.0.2.1", "2001:db8::1", "198.51.100.1"]);
    assert_eq!(node.primary_address::<V6>().map(IpAddr::from), Some(node.addresses[1]));
    assert_eq!(node.primary_address::<V4>().map(IpAddr::from), Some(node.addresses[0]));
    let rejected: Vec<_> = converted.rejected.iter().map(ToString::to_string).collect();
    let expected = r#"Node n: status.addresses[4].address: "n.example" is not an IP address"#;
    assert_eq!(rejected, [expected]);
}

#[test]
fn nodes_have_ranges_of_pods() {
    let cidrs = |spec: Value| {
        let node = json!({"metadata": {"name": "n"}, "spec": spec});
        let converted = convert::<api::Node>(&node).unwrap();
        let rejected: Vec<_> = converted.rejected.into_iter().map(|field| field.field).collect();
        let Event::Apply(Object::Node(node)) = converted.event else { panic!() };
        (node.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(), rejected)
    };
    let both = json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]});
    let both = cidrs(both);
    assert_eq!(both.0, ["10.1.0.0/24", "fd00:1::/64"]);
    assert_eq!(cidrs(json!({"podCIDR": "fd00:1::/64"})).0, ["fd00:1::/64"]);
    let bad = cidrs(json!({"podCIDRs": ["10.1.0.0/24", "ten"]}));
    assert_eq!((bad.0.len(), bad.1), (1, vec!["spec.podCIDRs[1]".to_owned()]));
}

#[test]
fn nodes_have_a_zone_and_service_cidrs_have_ranges() {
    let zone = |labels: Value| {
        let node = json!({"metadata": {"name": "n", "labels": labels}});
        match convert::<api::Node>(&node).unwrap().event {
            Event::Apply(Object::Node(node)) => node.zone,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(zone(json!({"topology.kubernetes.io/zone": "a"})), Some("a".into()));
    assert_eq!(zone(json!({"topology.kubernetes.io/zone": ""})), None);
    let cidr = |cidrs: Value| {
        let object = json!({"metadata": {"name": "c"}, "spec": {"cidrs": cidrs}});
        convert::<api::ServiceCidr>(&object).map_err(|rejected| rejected.field)
    };
    assert!(cidr(json!(["10.96.0.0/16", "fd00:10:96::/112"])).is_ok());
    assert_eq!(cidr(json!(["10.96.0.0/16", "10.0.0.0/33"])), Err("spec.cidrs[1]".to_owned()));
    assert_eq!(cidr(json!([])), Err("spec.cidrs".to_owned()));
}
