// SPDX-License-Identifier: Apache-2.0
//! What clients should find: an independent reading of the specs.

use std::collections::{BTreeMap, BTreeSet};

use proxy_common::{
    Family, Port as Number,
    backend::Standing,
    frontend::{FrontendKey, FrontendKind},
    service::{BackendSet, Policy},
};

use super::{
    super::{NODE_NET, Spec, State, address, spec::net},
    NAMES,
    seen::{Port, Seen, Set},
};
use crate::model::TrafficPolicy::Local;

/// What the specs say.
pub(super) fn expected<F: Family>(
    world: &BTreeMap<usize, Spec>,
    node: &BTreeSet<(u16, u16)>,
) -> BTreeMap<FrontendKey<F>, Seen<F>> {
    let mut all = BTreeMap::new();
    for (net, host) in node {
        let _ = all.insert(FrontendKey::whole(address::<F>(*net, *host)), Seen::Node);
    }
    for spec in world.values() {
        let _ = all.insert(FrontendKey::whole(address::<F>(96, spec.vip)), Seen::Refuse);
        for (_, protocol, _) in &spec.ports {
            for (host, state, _) in &spec.endpoints {
                if *state != State::Gone {
                    let pod = address::<F>(244, *host);
                    let key = FrontendKey::new(pod, Number::new(8080), *protocol);
                    let _ = all.insert(key, Seen::Direct);
                }
            }
        }
    }
    let mut by_age: Vec<_> = world.iter().collect();
    by_age.sort_by_key(|(name, spec)| (spec.created.is_none(), spec.created, spec.uid, *name));
    // What takes precedence is written last: cluster IPs, and the oldest Service.
    for is_external in [true, false] {
        for (name, spec) in by_age.iter().rev() {
            for at in 0..spec.ports.len() {
                for (key, kind) in frontends::<F>(spec, at) {
                    if (kind != FrontendKind::ClusterIp) == is_external {
                        let _ = all.insert(key, Seen::Port(port(NAMES[**name], spec, kind)));
                    }
                }
            }
        }
    }
    all
}

fn frontends<F: Family>(spec: &Spec, at: usize) -> Vec<(FrontendKey<F>, FrontendKind)> {
    let (_, protocol, number) = spec.ports[at];
    let key = |(net, host): &(u16, u16)| {
        FrontendKey::new(address::<F>(*net, *host), Number::new(number), protocol)
    };
    let outside = &spec.outside;
    let external = outside.external_ips.iter().map(|ip| (key(ip), FrontendKind::ExternalIp));
    let balancer = outside.load_balancer_ips.iter();
    let balancer = balancer.map(|ip| (key(ip), FrontendKind::LoadBalancer));
    let node_port = outside.node_port.map(|first| {
        let number = Number::new(first + u16::try_from(at).unwrap());
        (FrontendKey::node_port(number, protocol), FrontendKind::NodePort)
    });
    let cluster_ip = (key(&(96, spec.vip)), FrontendKind::ClusterIp);
    external.chain(balancer).chain(node_port).chain([cluster_ip]).collect()
}

fn port<F: Family>(name: &'static str, spec: &Spec, kind: FrontendKind) -> Port<F> {
    let outside = &spec.outside;
    // The addresses may all be the cluster IP, which they then are rather.
    let is_vip = |ip: &(u16, u16)| *ip == (96, spec.vip);
    let mut ips = outside.load_balancer_ips.iter().chain(&outside.external_ips);
    let reached = outside.node_port.is_some() || ips.any(|ip| !is_vip(ip));
    let restricted = !outside.ranges.is_empty();
    let bits = [
        (spec.policy == Local, Policy::INTERNAL_LOCAL),
        (reached && outside.policy == Local, Policy::EXTERNAL_LOCAL),
        (restricted, Policy::SOURCE_RANGES),
        (restricted && outside.ranges.contains(&NODE_NET), Policy::NODE_IN_RANGES),
    ];
    let set = bits.iter().filter(|(is, _)| *is).map(|(_, bit)| *bit);
    let policy = set.fold(Policy::default(), Policy::with);
    let wants_cluster = reached || spec.policy != Local;
    let wants_local = policy.has(Policy::INTERNAL_LOCAL) || policy.has(Policy::EXTERNAL_LOCAL);
    let (cluster, local) = (chosen(spec, false), chosen(spec, true));
    let standing = |host: u16, is_here: bool| {
        [
            (wants_cluster && cluster.contains(&host), Standing::IN_CLUSTER),
            (wants_local && local.contains(&host), Standing::IN_LOCAL),
            (is_here, Standing::ON_NODE),
        ]
        .iter()
        .filter(|(is, _)| *is)
        .fold(Standing::default(), |standing, (_, bit)| standing.with(*bit))
    };
    let set = |wanted: bool, hosts: &[u16]| {
        let usable = spec.endpoints.iter().any(|(_, state, _)| *state != State::Gone);
        if !wanted || hosts.is_empty() {
            let word = if wanted && usable { BackendSet::DROP } else { BackendSet::REJECT };
            return Set::Empty(word.to_word());
        }
        let members = spec.endpoints.iter().filter(|(host, ..)| hosts.contains(host));
        let member = |(host, _, here): &(u16, State, bool)| {
            (address::<F>(244, *host), standing(*host, *here))
        };
        Set::Members(members.map(member).collect())
    };
    let range = |range: &u16| (u32::from(net::<F>(*range).prefix_len()), address::<F>(*range, 0));
    // A load balancer that the node has for its own asks itself, where the node may ask.
    let asks_itself = policy.has(Policy::NODE_IN_RANGES);
    let balancers = outside
        .load_balancer_ips
        .iter()
        .filter(|(net, _)| asks_itself && !outside.ranges.contains(net));
    let whole = u32::try_from(size_of::<F::Addr>() * 8).unwrap();
    let balancers = balancers.map(|(net, host)| (whole, address::<F>(*net, *host)));
    Port {
        name,
        kind,
        policy: policy.with_affinity(spec.affinity),
        cluster: set(wants_cluster, &cluster),
        local: set(wants_local, &local),
        ranges: outside.ranges.iter().map(range).chain(balancers).collect(),
    }
}

/// The endpoints of a set, by host.
fn chosen(spec: &Spec, local: bool) -> Vec<u16> {
    let in_state = |wanted: State| -> Vec<u16> {
        let endpoints = spec.endpoints.iter();
        let chosen = endpoints.filter(|(_, state, here)| *state == wanted && (*here || !local));
        chosen.map(|(host, ..)| *host).collect()
    };
    let ready = in_state(State::Ready);
    if ready.is_empty() { in_state(State::Draining) } else { ready }
}
