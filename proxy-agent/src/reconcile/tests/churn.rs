// SPDX-License-Identifier: Apache-2.0
//! Random lives of a few Services that share addresses, ports and endpoints, with random
//! failures: every write is safe, what comes out is what the specs say by an independent reading
//! of them, and nothing is left behind.

mod expected;
mod seen;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use proptest::prelude::*;
use proxy_common::{Family, Protocol, V4, V6};

use self::{expected::expected, seen::seen};
use super::{Bench, NODE_NET, Outside, Spec, State};
use crate::{model::TrafficPolicy, reconcile::Rows};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
enum Step {
    Put(usize, Spec),
    Delete(usize),
    /// The node's addresses: nets and last parts.
    Node(BTreeSet<(u16, u16)>),
    Flush,
    Wait(u64),
}

fn a_policy() -> impl Strategy<Value = TrafficPolicy> {
    prop_oneof![3 => Just(TrafficPolicy::Cluster), 1 => Just(TrafficPolicy::Local)]
}

fn a_spec() -> impl Strategy<Value = Spec> {
    let state = prop_oneof![Just(State::Ready), Just(State::Draining), Just(State::Gone)];
    let ports = prop::sample::subsequence(
        vec![
            ("http", Protocol::TCP, 80),
            ("quic", Protocol::UDP, 80),
            ("web", Protocol::TCP, 8080),
        ],
        0..=3,
    );
    let endpoints = prop::collection::btree_map(0_u16..8, (state, any::<bool>()), 0..6);
    let affinity = prop_oneof![2 => Just(0), 1 => Just(10_u32), 1 => Just(10_800)];
    let age = (prop::option::of(0_i64..3), 0_u16..3);
    (0_u16..4, age, a_policy(), ports, endpoints, affinity, an_outside()).prop_map(
        |(vip, (created, uid), policy, ports, endpoints, affinity, outside)| Spec {
            vip,
            created,
            uid,
            policy,
            ports,
            endpoints: endpoints
                .into_iter()
                .map(|(host, (state, local))| (host, state, local))
                .collect(),
            affinity,
            outside,
        },
    )
}

/// Addresses of which some are cluster IPs too.
fn an_outside() -> impl Strategy<Value = Outside> {
    let address = || (prop_oneof![1 => Just(96_u16), 3 => Just(97)], 0_u16..3);
    let addresses = || prop::collection::vec(address(), 0..3);
    let ranges = prop::sample::subsequence(vec![NODE_NET, 51, 52], 0..=3);
    let node_port = prop::option::of(30_000_u16..30_003);
    (a_policy(), node_port, addresses(), addresses(), ranges).prop_map(
        |(policy, node_port, external_ips, load_balancer_ips, ranges)| Outside {
            policy,
            node_port,
            external_ips,
            load_balancer_ips,
            ranges,
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = 0..NAMES.len();
    let step = prop_oneof![
        5 => (name.clone(), a_spec()).prop_map(|(name, spec)| Step::Put(name, spec)),
        2 => name.prop_map(Step::Delete),
        1 => prop::collection::btree_set((96_u16..98, 0_u16..3), 0..4).prop_map(Step::Node),
        4 => Just(Step::Flush),
        2 => (0_u64..7000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

fn churn<F: Family>(steps: Vec<Step>, faults: Vec<bool>) -> Result<(), TestCaseError> {
    let mut faults = VecDeque::from(faults);
    let mut bench = Bench::<F>::with(Rows::CAPACITY, move |_| faults.pop_front().unwrap_or(false));
    let mut world = BTreeMap::new();
    let mut node = BTreeSet::new();
    for step in steps {
        match step {
            Step::Put(name, spec) => {
                bench.set(NAMES[name], &spec);
                let _ = world.insert(name, spec);
            }
            Step::Delete(name) => {
                bench.delete(NAMES[name]);
                let _ = world.remove(&name);
            }
            Step::Node(addresses) => {
                bench.set_node(&addresses);
                node = addresses;
            }
            Step::Flush => {
                let _ = bench.flush();
            }
            Step::Wait(milliseconds) => bench.wait(Duration::from_millis(milliseconds)),
        }
    }
    bench.settle();
    bench.assert_safe();
    prop_assert_eq!(seen(&bench), expected::<F>(&world, &node));
    // Nothing more is to be done, not even when everything is asked for again.
    let _ = bench.written();
    for (name, spec) in &world {
        bench.delete(NAMES[*name]);
        bench.set(NAMES[*name], spec);
    }
    bench.settle();
    prop_assert_eq!(bench.written(), []);
    for name in world.keys() {
        bench.delete(NAMES[*name]);
    }
    bench.set_node(&BTreeSet::new());
    bench.settle();
    bench.assert_safe();
    bench.assert_empty();
    Ok(())
}

proptest! {
    #[test]
    fn v4(steps in steps(), faults in prop::collection::vec(prop::bool::weighted(0.15), 0..150)) {
        churn::<V4>(steps, faults)?;
    }

    #[test]
    fn v6(steps in steps(), faults in prop::collection::vec(prop::bool::weighted(0.15), 0..150)) {
        churn::<V6>(steps, faults)?;
    }
}
