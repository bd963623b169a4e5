// SPDX-License-Identifier: Apache-2.0
//! What the outside reaches of a Service: its frontends, policies and source ranges.

use std::num::NonZeroU32;

use ipnet::IpNet;

use super::*;

/// What differs between the families.
struct Texts {
    vip: &'static str,
    external: [&'static str; 2],
    load_balancer: &'static str,
    node: &'static str,
    /// One that holds the node, and one that does not.
    ranges: [&'static str; 2],
    here: &'static str,
    there: &'static str,
}

const OF_V4: Texts = Texts {
    vip: "10.96.0.1",
    external: ["198.51.100.1", "198.51.100.2"],
    load_balancer: "203.0.113.1",
    node: "192.0.2.1",
    ranges: ["192.0.2.0/24", "10.0.0.0/8"],
    here: "10.244.1.1",
    there: "10.244.2.1",
};

const OF_V6: Texts = Texts {
    vip: "fd00:10:96::1",
    external: ["2001:db8:1::1", "2001:db8:1::2"],
    load_balancer: "2001:db8:2::1",
    node: "2001:db8::1",
    ranges: ["2001:db8::/64", "fd00::/8"],
    here: "fd00:10:244:1::1",
    there: "fd00:10:244:2::1",
};

/// Runs each of these functions, generic over the family, for both, with the family's texts.
macro_rules! in_both_families {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[test]
            fn v4() { super::$name::<proxy_common::V4>(&super::OF_V4); }
            #[test]
            fn v6() { super::$name::<proxy_common::V6>(&super::OF_V6); }
        }
    )+ };
}

in_both_families!(
    all_frontends_have_their_kinds,
    an_address_is_one_frontend,
    external_ips_need_leave,
    the_external_policy_asks_for_both_sets,
    a_policy_without_an_external_frontend_is_none,
    source_ranges_are_those_of_the_family,
    source_ranges_do_not_wait_for_a_load_balancer,
    the_node_may_be_in_the_ranges,
    with_the_node_the_load_balancer_itself_is_in_the_ranges,
    affinity_is_in_the_policy,
    serving_endpoints_here_are_known,
);

fn ips(texts: &[&str]) -> Vec<std::net::IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A load balancer with one port, dual-stack, with everything in both families.
fn everything() -> Service {
    let all = |of: fn(&Texts) -> &'static str| ips(&[of(&OF_V4), of(&OF_V6)]);
    Service {
        name: ObjectName::new("ns", "web"),
        uid: "u1".into(),
        cluster_ips: all(|texts| texts.vip),
        external_ips: all(|texts| texts.external[0]),
        load_balancer_ips: all(|texts| texts.load_balancer),
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::TCP,
            port: Port::new(80),
            node_port: Some(Port::new(30_080)),
        }],
        ..Service::default()
    }
}

/// The plan of its port, with an endpoint on this node and one elsewhere.
fn planned<F: Family>(service: &Service, texts: &Texts, options: &Options) -> PortPlan<F> {
    let on = |address: &str, node: &str| Endpoint {
        node: Some(node.into()),
        ..endpoint(address, READY)
    };
    let endpoints = vec![on(texts.here, "me"), on(texts.there, "you")];
    let slice = slice(("http", Protocol::TCP, 8080), endpoints);
    // The other family's address is before the own.
    let addresses = ips(&[OF_V6.node, OF_V4.node, "192.0.2.99", "2001:db8::99"]);
    let node = NodeContext { addresses: &addresses, ..NODE };
    let plan = plan::<F>(service, &[&slice], node, options).unwrap();
    assert_eq!(&*plan.uid, "u1");
    plan.ports.into_iter().next().unwrap()
}

fn plain<F: Family>(service: &Service, texts: &Texts) -> PortPlan<F> {
    planned(service, texts, &Options::default())
}

fn key<F: Family>(address: &str) -> FrontendKey<F> {
    FrontendKey::new(at::<F>(address, 80).address, Port::new(80), Protocol::TCP)
}

fn node_port<F: Family>() -> FrontendKey<F> {
    FrontendKey::node_port(Port::new(30_080), Protocol::TCP)
}

fn all_frontends_have_their_kinds<F: Family>(texts: &Texts) {
    let expected = [
        (key::<F>(texts.vip), FrontendKind::ClusterIp),
        (node_port(), FrontendKind::NodePort),
        (key(texts.load_balancer), FrontendKind::LoadBalancer),
        (key(texts.external[0]), FrontendKind::ExternalIp),
    ];
    assert_eq!(plain::<F>(&everything(), texts).frontends, expected);
}

fn an_address_is_one_frontend<F: Family>(texts: &Texts) {
    let mut service = everything();
    service.external_ips = ips(&[texts.load_balancer, texts.vip]);
    service.load_balancer_ips.extend(ips(&[texts.vip]));
    let expected = [
        (key::<F>(texts.vip), FrontendKind::ClusterIp),
        (node_port(), FrontendKind::NodePort),
        (key(texts.load_balancer), FrontendKind::LoadBalancer),
    ];
    assert_eq!(plain::<F>(&service, texts).frontends, expected);
}

fn external_ips_need_leave<F: Family>(texts: &Texts) {
    let mut service = everything();
    service.external_ips = ips(&texts.external);
    let admitted = |external_ips| {
        let options = Options { external_ips, ..Options::default() };
        let frontends = planned::<F>(&service, texts, &options).frontends;
        let external = frontends.into_iter().filter(|(_, kind)| *kind == FrontendKind::ExternalIp);
        external.map(|(key, _)| key).collect::<Vec<_>>()
    };
    let both = texts.external.map(key);
    assert_eq!(admitted(ExternalIps::default()), both);
    assert_eq!(admitted(ExternalIps::Refused), []);
    let one = IpNet::from(ips(&texts.external[1..])[0]);
    assert_eq!(admitted(ExternalIps::Within(vec![one])), both[1..]);
    let other = if F::INDEX == 0 { "::/0" } else { "0.0.0.0/0" };
    assert_eq!(admitted(ExternalIps::Within(vec![net(other)])), []);
    // Without its external IP the Service is not reached from outside.
    service = Service { external_ips: service.external_ips, ..everything() };
    service.load_balancer_ips.clear();
    service.ports[0].node_port = None;
    service.external_traffic_policy = TrafficPolicy::Local;
    let options = Options { external_ips: ExternalIps::Refused, ..Options::default() };
    assert_eq!(planned::<F>(&service, texts, &options).policy, Policy::default());
}

fn the_external_policy_asks_for_both_sets<F: Family>(texts: &Texts) {
    let all = vec![at::<F>(texts.here, 8080), at(texts.there, 8080)];
    let service = |internal, external| Service {
        internal_traffic_policy: internal,
        external_traffic_policy: external,
        ..everything()
    };
    let (cluster, local) = (TrafficPolicy::Cluster, TrafficPolicy::Local);
    for (internal, external, bits, has_local) in [
        (cluster, cluster, Policy::default(), false),
        (cluster, local, Policy::EXTERNAL_LOCAL, true),
        (local, cluster, Policy::INTERNAL_LOCAL, true),
        (local, local, Policy::INTERNAL_LOCAL.with(Policy::EXTERNAL_LOCAL), true),
    ] {
        let port = plain::<F>(&service(internal, external), texts);
        assert_eq!(port.cluster, Some(SetPlan::Endpoints(all.clone())));
        let here = SetPlan::Endpoints(all[..1].to_vec());
        assert_eq!(port.local, has_local.then_some(here));
        assert_eq!(port.policy, bits);
    }
}

fn a_policy_without_an_external_frontend_is_none<F: Family>(texts: &Texts) {
    // What there is, is of the other family.
    let other = if F::INDEX == 0 { &OF_V6 } else { &OF_V4 };
    let mut service = Service {
        external_traffic_policy: TrafficPolicy::Local,
        external_ips: ips(&other.external),
        load_balancer_ips: ips(&[other.load_balancer]),
        ..everything()
    };
    service.ports[0].node_port = None;
    let port = plain::<F>(&service, texts);
    assert_eq!(port.frontends, [(key(texts.vip), FrontendKind::ClusterIp)]);
    assert_eq!((port.policy, port.local), (Policy::default(), None));
}

fn source_ranges_are_those_of_the_family<F: Family>(texts: &Texts) {
    let other = if F::INDEX == 0 { &OF_V6 } else { &OF_V4 };
    let ranges = vec![net(texts.ranges[1]), net(other.ranges[0])];
    let service = Service { source_ranges: ranges, ..everything() };
    let port = plain::<F>(&service, texts);
    let [range] = &port.source_ranges[..] else { panic!("{:?}", port.source_ranges) };
    let address: std::net::IpAddr = range.address.into();
    assert_eq!(format!("{address}/{}", range.length), texts.ranges[1]);
    assert_eq!(port.policy, Policy::SOURCE_RANGES);
    // A family without a range is open.
    let service = Service { source_ranges: vec![net(other.ranges[1])], ..everything() };
    let port = plain::<F>(&service, texts);
    assert_eq!((port.policy, port.source_ranges.len()), (Policy::default(), 0));
}

fn source_ranges_do_not_wait_for_a_load_balancer<F: Family>(texts: &Texts) {
    let ranges = texts.ranges.map(net).to_vec();
    let mut service = Service { source_ranges: ranges, ..everything() };
    let with = plain::<F>(&service, texts);
    service.load_balancer_ips.clear();
    let mut without = plain::<F>(&service, texts);
    let both = Policy::SOURCE_RANGES.with(Policy::NODE_IN_RANGES);
    assert_eq!((without.policy, without.source_ranges.len()), (both, 2));
    // Nothing else tells the two apart, but that the load balancer may ask itself.
    let balanced = (key(texts.load_balancer), FrontendKind::LoadBalancer);
    assert!(with.frontends.contains(&balanced) && !without.frontends.contains(&balanced));
    without.frontends.clone_from(&with.frontends);
    assert_eq!(with.source_ranges[..2], without.source_ranges);
    without.source_ranges.clone_from(&with.source_ranges);
    assert_eq!(without, with);
}

fn the_node_may_be_in_the_ranges<F: Family>(texts: &Texts) {
    let policy = |range: &str| {
        let ranges = vec![net(texts.ranges[1]), net(range)];
        let service = Service { source_ranges: ranges, ..everything() };
        plain::<F>(&service, texts).policy
    };
    let both = Policy::SOURCE_RANGES.with(Policy::NODE_IN_RANGES);
    assert_eq!(policy(texts.ranges[0]), both);
    // Another address of the node's does not count.
    let second = if F::INDEX == 0 { "192.0.2.99/32" } else { "2001:db8::99/128" };
    assert_eq!(policy(second), Policy::SOURCE_RANGES);
}

fn with_the_node_the_load_balancer_itself_is_in_the_ranges<F: Family>(texts: &Texts) {
    let ranges_of = |service: &Service| -> Vec<String> {
        let ranges = plain::<F>(service, texts).source_ranges;
        let text = |range: &Prefix<F>| {
            let address: std::net::IpAddr = range.address.into();
            format!("{address}/{}", range.length)
        };
        ranges.iter().map(text).collect()
    };
    let with = |ranges: &[&str]| {
        let source_ranges = ranges.iter().map(|range| net(range)).collect();
        Service { source_ranges, ..everything() }
    };
    let [node, other] = texts.ranges;
    let balanced = IpNet::from(ips(&[texts.load_balancer])[0]).to_string();
    assert_eq!(ranges_of(&with(&[node])), [node, &balanced]);
    assert_eq!(ranges_of(&with(&[other])), [other]);
    // Each of its addresses, and each once.
    let mut service = with(&[other, node]);
    service.load_balancer_ips = ips(&[texts.load_balancer, texts.external[1], texts.load_balancer]);
    let second = IpNet::from(ips(&[texts.external[1]])[0]).to_string();
    assert_eq!(ranges_of(&service), [other, node, &balanced, &second]);
    assert_eq!(ranges_of(&with(&[node, &balanced])), [node, &balanced]);
    // Those of the other family, and a Service without ranges, ask for nothing.
    let foreign = if F::INDEX == 0 { &OF_V6 } else { &OF_V4 };
    assert_eq!(ranges_of(&with(&[foreign.ranges[0]])), [""; 0]);
    assert_eq!(ranges_of(&with(&[])), [""; 0]);
}

fn affinity_is_in_the_policy<F: Family>(texts: &Texts) {
    let service = Service { affinity: NonZeroU32::new(10_800), ..everything() };
    let policy = plain::<F>(&service, texts).policy;
    assert_eq!(
        (policy, policy.affinity_seconds()),
        (Policy::default().with_affinity(10_800), 10_800)
    );
}

fn serving_endpoints_here_are_known<F: Family>(texts: &Texts) {
    let port = plain::<F>(&everything(), texts);
    assert_eq!(port.serving, [at(texts.here, 8080), at(texts.there, 8080)]);
    assert_eq!(port.on_node, [at(texts.here, 8080)].into());
}
