// SPDX-License-Identifier: Apache-2.0
//! Random lives of a few Services that share addresses, ports and endpoints, with random
//! failures: every write is safe, what comes out is what the specs say by an independent reading
//! of them, and nothing is left behind.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use proptest::prelude::*;
use proxy_common::{
    Family, Port, Protocol, V4, V6,
    frontend::{Frontend, FrontendKey, ServiceIndex},
    name,
    service::{BackendSet, Policy},
};

use super::{Bench, Spec, State, address};
use crate::{model::TrafficPolicy, reconcile::Rows};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
enum Step {
    Put(usize, Spec),
    Delete(usize),
    Flush,
    Wait(u64),
}

fn a_spec() -> impl Strategy<Value = Spec> {
    let state = prop_oneof![Just(State::Ready), Just(State::Draining), Just(State::Gone)];
    let policy = prop_oneof![3 => Just(TrafficPolicy::Cluster), 1 => Just(TrafficPolicy::Local)];
    let ports = prop::sample::subsequence(
        vec![
            ("http", Protocol::TCP, 80),
            ("quic", Protocol::UDP, 80),
            ("web", Protocol::TCP, 8080),
        ],
        0..=3,
    );
    (
        0_u16..4,
        prop::option::of(0_i64..3),
        policy,
        ports,
        prop::collection::btree_map(0_u16..8, (state, any::<bool>()), 0..6),
    )
        .prop_map(|(vip, created, policy, ports, endpoints)| Spec {
            vip,
            created,
            policy,
            ports,
            endpoints: endpoints
                .into_iter()
                .map(|(host, (state, local))| (host, state, local))
                .collect(),
        })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = 0..NAMES.len();
    let step = prop_oneof![
        5 => (name.clone(), a_spec()).prop_map(|(name, spec)| Step::Put(name, spec)),
        2 => name.prop_map(Step::Delete),
        4 => Just(Step::Flush),
        2 => (0_u64..7000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a client finds behind a frontend.
#[derive(Debug, PartialEq, Eq)]
enum Seen<F: Family> {
    Refuse,
    Direct,
    Empty(&'static str, u64),
    Served(&'static str, BTreeSet<F::Addr>),
}

/// What the tables say.
fn seen<F: Family>(bench: &Bench<F>) -> BTreeMap<FrontendKey<F>, Seen<F>> {
    let fake = bench.fake();
    let behind = |frontend: &Frontend| match frontend.service() {
        ServiceIndex::REFUSE => Seen::Refuse,
        ServiceIndex::DIRECT => Seen::Direct,
        index => {
            let name = name::text(&fake.names[&index].name).unwrap();
            let name = NAMES.iter().find(|known| **known == name).unwrap();
            let row = fake.services.get(&index).copied().unwrap_or_default();
            let local = row.policy.has(Policy::INTERNAL_LOCAL);
            let (set, unused) =
                if local { (row.local, row.cluster) } else { (row.cluster, row.local) };
            assert_eq!(unused, BackendSet::REJECT);
            if set.when_empty().is_some() {
                return Seen::Empty(name, set.to_word());
            }
            let slots = set.start()..set.start() + set.count();
            let members: Vec<_> =
                slots.map(|slot| fake.backends[&fake.slots[&slot]].address).collect();
            let distinct: BTreeSet<_> = members.iter().copied().collect();
            assert_eq!(distinct.len(), members.len(), "each endpoint has one slot");
            Seen::Served(name, distinct)
        }
    };
    fake.frontends.iter().map(|(key, frontend)| (*key, behind(frontend))).collect()
}

/// What the specs say.
fn wanted<F: Family>(world: &BTreeMap<usize, Spec>) -> BTreeMap<FrontendKey<F>, Seen<F>> {
    let mut all = BTreeMap::new();
    for spec in world.values() {
        let _ = all.insert(FrontendKey::whole(address::<F>(96, spec.vip)), Seen::Refuse);
        for (_, protocol, _) in &spec.ports {
            for (host, state, _) in &spec.endpoints {
                if *state != State::Gone {
                    let pod = address::<F>(244, *host);
                    let key = FrontendKey::new(pod, Port::new(8080), *protocol);
                    let _ = all.insert(key, Seen::Direct);
                }
            }
        }
    }
    let mut by_age: Vec<_> = world.iter().collect();
    by_age.sort_by_key(|(name, spec)| (spec.created.is_none(), spec.created, *name));
    // The oldest is written last.
    for (name, spec) in by_age.into_iter().rev() {
        for (_, protocol, number) in &spec.ports {
            let vip = address::<F>(96, spec.vip);
            let key = FrontendKey::new(vip, Port::new(*number), *protocol);
            let _ = all.insert(key, served::<F>(NAMES[*name], spec));
        }
    }
    all
}

fn served<F: Family>(name: &'static str, spec: &Spec) -> Seen<F> {
    let here = |local: bool| local || spec.policy == TrafficPolicy::Cluster;
    let in_state = |wanted: State| -> BTreeSet<F::Addr> {
        let endpoints = spec.endpoints.iter();
        endpoints
            .filter(|(_, state, local)| *state == wanted && here(*local))
            .map(|(host, _, _)| address::<F>(244, *host))
            .collect()
    };
    let usable = spec.endpoints.iter().any(|(_, state, _)| *state != State::Gone);
    [in_state(State::Ready), in_state(State::Draining)]
        .into_iter()
        .find(|members| !members.is_empty())
        .map_or_else(
            || {
                let word = if usable { BackendSet::DROP } else { BackendSet::REJECT };
                Seen::Empty(name, word.to_word())
            },
            |members| Seen::Served(name, members),
        )
}

fn churn<F: Family>(steps: Vec<Step>, faults: Vec<bool>) -> Result<(), TestCaseError> {
    let mut faults = VecDeque::from(faults);
    let mut bench = Bench::<F>::with(Rows::CAPACITY, move |_| faults.pop_front().unwrap_or(false));
    let mut world = BTreeMap::new();
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
            Step::Flush => {
                let _ = bench.flush();
            }
            Step::Wait(milliseconds) => bench.wait(Duration::from_millis(milliseconds)),
        }
    }
    bench.settle();
    bench.assert_safe();
    prop_assert_eq!(seen(&bench), wanted::<F>(&world));
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
