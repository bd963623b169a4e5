// SPDX-License-Identifier: Apache-2.0
//! Random lives of a few Services that share addresses, ports and endpoints, with random
//! failures: every write is safe, what comes out is what the specs say by an independent reading
//! of them, and nothing is left behind. Clients open flows meanwhile, which somebody walks through.

mod clients;
mod expected;
mod seen;
mod tight;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use proptest::prelude::*;
use proxy_common::{Family, Protocol, V4, V6};

use self::{clients::Clients, expected::expected, seen::seen};
use super::{Bench, NODE_NET, Outside, Spec, State, web};
use crate::{
    model::TrafficPolicy,
    reconcile::{Rows, allocator::REST},
};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
enum Step {
    Put(usize, Spec),
    Delete(usize),
    /// The node's addresses: nets and last parts.
    Node(BTreeSet<(u16, u16)>),
    Flush,
    /// The agent ends, wherever it is, and another one begins.
    Restart,
    Wait(u64),
    /// A client finds one of the frontends.
    LookUp(prop::sample::Index),
    /// Those who have found one open their flows.
    Open,
    /// One of the flows ends.
    Close(prop::sample::Index),
    /// Somebody begins to walk through the flows.
    Walk,
    /// And has walked through all of them.
    Walked,
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
        1 => Just(Step::Restart),
        2 => (0_u64..7000).prop_map(Step::Wait),
        3 => any::<prop::sample::Index>().prop_map(Step::LookUp),
        2 => Just(Step::Open),
        1 => any::<prop::sample::Index>().prop_map(Step::Close),
        2 => Just(Step::Walk),
        2 => Just(Step::Walked),
    ];
    prop::collection::vec(step, 1..60)
}

/// What there is, beside the tables.
#[derive(Default)]
struct World {
    services: BTreeMap<usize, Spec>,
    node: BTreeSet<(u16, u16)>,
    clients: Clients,
    /// Whether clients open flows.
    is_walked: bool,
}

impl World {
    fn go<F: Family>(&mut self, bench: &mut Bench<F>, step: Step) {
        match step {
            Step::Put(name, spec) => {
                bench.set(NAMES[name], &spec);
                let _ = self.services.insert(name, spec);
            }
            Step::Delete(name) => {
                bench.delete(NAMES[name]);
                let _ = self.services.remove(&name);
            }
            Step::Node(addresses) => {
                bench.set_node(&addresses);
                self.node = addresses;
            }
            Step::Flush => {
                let _ = bench.flush();
            }
            Step::Restart => {
                self.clients.forget_walk();
                bench.restart();
                for (name, spec) in &self.services {
                    bench.set(NAMES[*name], spec);
                }
                bench.set_node(&self.node);
            }
            Step::Wait(milliseconds) => bench.wait(Duration::from_millis(milliseconds)),
            Step::LookUp(at) if self.is_walked => self.clients.look_up(bench, at),
            Step::Open => self.clients.open(bench),
            Step::Close(at) => Clients::close(bench, at),
            Step::Walk => self.clients.walk(bench),
            Step::Walked => self.clients.walked(bench),
            Step::LookUp(_) => {}
        }
    }
}

fn churn<F: Family>(
    steps: Vec<Step>,
    faults: Vec<bool>,
    is_walked: bool,
) -> Result<(), TestCaseError> {
    let mut faults = VecDeque::from(faults);
    let mut bench = Bench::<F>::with(Rows::CAPACITY, move |_| faults.pop_front().unwrap_or(false));
    if is_walked {
        bench = bench.walked();
    }
    let mut world = World { is_walked, ..World::default() };
    for step in steps {
        world.go(&mut bench, step);
    }
    let World { services: world, node, mut clients, .. } = world;
    bench.settle();
    bench.assert_safe();
    prop_assert_eq!(seen(&bench), expected::<F>(&world, &node));
    // Nothing more is to be done, not even by another agent, or when everything is asked for again.
    bench.restart();
    for (name, spec) in &world {
        bench.set(NAMES[*name], spec);
    }
    bench.set_node(&node);
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
    // Others come, which must not get what flows refer to.
    bench.wait(REST);
    clients.walk(&bench);
    clients.walked(&mut bench);
    for vip in 1..4 {
        bench.set(&format!("other{vip}"), &Spec { vip, ..web(&[(1, State::Ready, false)]) });
    }
    bench.settle();
    bench.assert_safe();
    Ok(())
}

proptest! {
    #[test]
    fn v4(
        steps in steps(),
        faults in prop::collection::vec(prop::bool::weighted(0.15), 0..150),
        is_walked in prop::bool::weighted(0.8),
    ) {
        churn::<V4>(steps, faults, is_walked)?;
    }

    #[test]
    fn v6(
        steps in steps(),
        faults in prop::collection::vec(prop::bool::weighted(0.15), 0..150),
        is_walked in prop::bool::weighted(0.8),
    ) {
        churn::<V6>(steps, faults, is_walked)?;
    }
}
