// SPDX-License-Identifier: Apache-2.0
//! The rows of kube-proxy's `TestCategorizeEndpoints`, and what follows from its code for node
//! hints.
//!
//! An endpoint is written as letters: `R` ready, `N` neither ready nor serving, `T` terminating
//! and still serving, `P` the same and ready, each with `L` if it is on this node; then `z=` and its
//! zone hints, `n=` and its node hints. Every endpoint is called by its place in the list.

use std::sync::Arc;

use super::*;
use crate::model::Hints;
use TrafficPolicy::{Cluster, Local};

/// The policies of a Service port: internal, and external if it is reached from outside.
type Policies = (TrafficPolicy, Option<TrafficPolicy>);

const ME: NodeContext<'_> = NodeContext { name: "me", zone: None, addresses: &[] };

const PLAIN: Policies = (Cluster, None);

struct Case<'a> {
    name: &'a str,
    zone: Option<&'a str>,
    policies: Policies,
    endpoints: &'a str,
    cluster: Option<&'a [usize]>,
    local: Option<&'a [usize]>,
    any: bool,
}

/// A port with no endpoints of its own that needs the cluster set only.
const CASE: Case<'_> = Case {
    name: "",
    zone: Some("a"),
    policies: PLAIN,
    endpoints: "",
    cluster: Some(&[]),
    local: None,
    any: true,
};

fn endpoint(text: &str) -> Endpoint {
    let mut words = text.split_whitespace();
    let letters = words.next().unwrap();
    let mut hints = Hints::default();
    for word in words {
        let (kind, names) = word.split_once('=').unwrap();
        let hints = if kind == "z" { &mut hints.zones } else { &mut hints.nodes };
        hints.extend(names.split('+').map(Arc::from));
    }
    Endpoint {
        address: "10.0.0.1".parse().unwrap(),
        ready: letters.starts_with(['R', 'P']),
        serving: !letters.starts_with('N'),
        terminating: letters.starts_with(['T', 'P']),
        node: letters.ends_with('L').then(|| "me".into()),
        hints: Some(Box::new(hints)),
    }
}

fn check(cases: &[Case<'_>]) {
    for case in cases {
        let endpoints: Vec<_> = case
            .endpoints
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(endpoint)
            .collect();
        let demand = Demand::of(case.policies.0, case.policies.1);
        let node = NodeContext { zone: case.zone, ..ME };
        let expected = Categories {
            cluster: case.cluster.map(<[_]>::to_vec),
            local: case.local.map(<[_]>::to_vec),
            any_usable: case.any,
        };
        let references: Vec<_> = endpoints.iter().collect();
        assert_eq!(categorize(&references, demand, node), expected, "{}", case.name);
    }
}

#[test]
#[rustfmt::skip]
fn topology_rows() {
    let four = "RL z=a, RL z=b, R z=c, R z=a";
    check(&[
        Case { name: "hints, zone has endpoints", endpoints: "R z=a, R z=b, R z=c, R z=a", cluster: Some(&[0, 3]), ..CASE },
        Case { name: "external Local and topology", policies: (Cluster, Some(Local)), endpoints: four, cluster: Some(&[0, 3]), local: Some(&[0, 1]), ..CASE },
        Case { name: "internal Local and topology", policies: (Local, Some(Cluster)), endpoints: four, cluster: Some(&[0, 3]), local: Some(&[0, 1]), ..CASE },
        Case { name: "node without a zone", zone: None, endpoints: "R z=a", cluster: Some(&[0]), ..CASE },
        Case { name: "node in a zone without endpoints", zone: Some("b"), endpoints: "R z=a", cluster: Some(&[0]), ..CASE },
        Case { name: "unready filtered", endpoints: "R z=a, R z=b, R z=c, N z=a", cluster: Some(&[0]), ..CASE },
        Case { name: "only unready in the zone", endpoints: "N z=a, R z=b, R z=c, N z=a", cluster: Some(&[1, 2]), ..CASE },
        Case { name: "one hint missing", endpoints: "R z=a, R z=b, R, R z=a", cluster: Some(&[0, 1, 2, 3]), ..CASE },
        Case { name: "several hints", zone: Some("c"), endpoints: "R z=a+b+c, R z=b+c, R z=b+d, R z=c", cluster: Some(&[0, 1, 3]), ..CASE },
        Case { name: "topology and external policy in conflict", policies: (Cluster, Some(Local)), endpoints: "RL z=a, RL z=b, R z=a, R z=b", cluster: Some(&[0, 2]), local: Some(&[0, 1]), ..CASE },
    ]);
}

#[test]
#[rustfmt::skip]
fn policy_rows() {
    let internal = (Local, None);
    let both = (Local, Some(Local));
    check(&[
        Case { name: "internal Local, none", policies: internal, cluster: None, local: Some(&[]), any: false, ..CASE },
        Case { name: "internal Local, all remote", policies: internal, endpoints: "R, R", cluster: None, local: Some(&[]), ..CASE },
        Case { name: "internal Local, all local", policies: internal, endpoints: "RL, RL", cluster: None, local: Some(&[0, 1]), ..CASE },
        Case { name: "internal Local, some local", policies: internal, endpoints: "RL, R", cluster: None, local: Some(&[0]), ..CASE },
        Case { name: "none ready", endpoints: "N, N", any: false, ..CASE },
        Case { name: "some ready", endpoints: "N, R", cluster: Some(&[1]), ..CASE },
        Case { name: "all terminating", endpoints: "TL, T", cluster: Some(&[0, 1]), ..CASE },
        Case { name: "internal Local, external Cluster", policies: (Local, Some(Cluster)), endpoints: "RL, R", cluster: Some(&[0, 1]), local: Some(&[0]), ..CASE },
        Case { name: "internal Cluster, external Local", policies: (Cluster, Some(Local)), endpoints: "RL, R", cluster: Some(&[0, 1]), local: Some(&[0]), ..CASE },
        Case { name: "both Local", policies: both, endpoints: "RL, R", cluster: Some(&[0, 1]), local: Some(&[0]), ..CASE },
        Case { name: "both Local, all remote", policies: both, endpoints: "R, R", cluster: Some(&[0, 1]), local: Some(&[]), ..CASE },
        Case { name: "both Local, remote terminating", policies: both, endpoints: "T, T", cluster: Some(&[0, 1]), local: Some(&[]), ..CASE },
        Case { name: "external Local, mixed", policies: (Cluster, Some(Local)), endpoints: "R, NL, TL, T", cluster: Some(&[0]), local: Some(&[2]), ..CASE },
        // externalTrafficPolicy of a port that cannot be reached from outside does not count.
        Case { name: "external Local of a ClusterIP", endpoints: "R, RL", cluster: Some(&[0, 1]), ..CASE },
        Case { name: "internal Local only", policies: internal, endpoints: "R, RL", cluster: None, local: Some(&[1]), ..CASE },
    ]);
}

#[test]
#[rustfmt::skip]
fn node_hint_rows() {
    check(&[
        Case { name: "one hint is this node", endpoints: "R n=me, R n=you", cluster: Some(&[0]), ..CASE },
        Case { name: "node before zone", endpoints: "R n=me z=b, R n=you z=a", cluster: Some(&[0]), ..CASE },
        Case { name: "no hint is this node: zone", endpoints: "R n=you z=a, R n=they z=b", cluster: Some(&[0]), ..CASE },
        Case { name: "no hint is this node, no zone hints", endpoints: "R n=you, R n=they", cluster: Some(&[0, 1]), ..CASE },
        Case { name: "one lacks a node hint, all have zones", endpoints: "R n=me z=b, R z=a", cluster: Some(&[1]), ..CASE },
        Case { name: "hints of unready endpoints do not count", endpoints: "R n=me, N", cluster: Some(&[0]), ..CASE },
        Case { name: "draining ignores hints", endpoints: "T n=me z=a, T n=you z=b", cluster: Some(&[0, 1]), ..CASE },
        Case { name: "local ignores hints", policies: (Local, None), endpoints: "RL n=you, R n=me", cluster: None, local: Some(&[0]), ..CASE },
    ]);
}

/// `publishNotReadyAddresses` makes endpoints ready whatever they are: also when they terminate. They
/// are ready ones then, beside others and before those that only serve.
#[test]
#[rustfmt::skip]
fn ready_ones_that_terminate_are_ready() {
    let external = (Cluster, Some(Local));
    check(&[
        Case { name: "alone", endpoints: "P", cluster: Some(&[0]), ..CASE },
        Case { name: "beside a ready one", endpoints: "P, R", cluster: Some(&[0, 1]), ..CASE },
        Case { name: "before one that only serves", endpoints: "T, P, N", cluster: Some(&[1]), ..CASE },
        Case { name: "here, and a ready one elsewhere", policies: external, endpoints: "PL, TL, R", cluster: Some(&[0, 2]), local: Some(&[0]), ..CASE },
        Case { name: "its hints count", endpoints: "P z=a, R z=b", cluster: Some(&[0]), ..CASE },
        Case { name: "it has no hint", endpoints: "R z=b, R z=a, P", cluster: Some(&[0, 1, 2]), ..CASE },
    ]);
    // Even if it does not serve: to be ready is enough.
    let idle = Endpoint { serving: false, ..endpoint("PL") };
    let categories = categorize(&[&idle], Demand::of(Local, None), ME);
    assert_eq!((categories.local, categories.any_usable), (Some(vec![0]), true));
}

#[test]
fn serving_but_neither_ready_nor_terminating_is_not_used() {
    let serving = Endpoint { ready: false, ..endpoint("R") };
    let categories = categorize(&[&serving], Demand::of(Cluster, None), ME);
    assert_eq!(categories.cluster, Some(Vec::new()));
    assert!(!categories.any_usable);
}
