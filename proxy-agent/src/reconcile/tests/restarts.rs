// SPDX-License-Identifier: Apache-2.0
//! Tables that another agent has left, wherever it was when it ended.

use std::{cell::Cell, collections::BTreeSet, rc::Rc};

use proxy_common::{
    Family, Port, Protocol,
    backend::{Backend, BackendId, Standing},
    frontend::{FrontendKey, ServiceIndex},
    service::BackendSet,
};

use super::{Bench, Spec, State::*, address, endpoint, failures::live, web};
use crate::{
    both_families::in_both_families,
    dataplane::{Contents, Dataplane as _, Op},
    model::TrafficPolicy,
    reconcile::{AdoptError, FamilyReconciler, Rows, allocator::REST},
};

in_both_families!(
    who_finds_what_it_wants_writes_nothing,
    what_has_gone_meanwhile_goes_after_what_has_come,
    rows_keep_their_meaning_and_generations,
    what_was_freed_just_before_rests,
    an_agent_may_end_after_any_operation,
    marks_of_the_node_stay_until_its_addresses_are_known,
    of_two_backends_of_an_endpoint_the_one_in_a_set_stays,
    a_set_that_was_about_to_go_goes,
    what_makes_no_sense_is_left_alone,
);

/// A Service with all that one can have.
fn whole() -> Spec {
    let mut spec = web(&[(1, Ready, true), (2, Ready, false), (3, Draining, false)]);
    spec.policy = TrafficPolicy::Local;
    spec.affinity = 10;
    spec.outside.node_port = Some(30_000);
    spec.outside.external_ips = vec![(97, 2)];
    spec.outside.load_balancer_ips = vec![(97, 1)];
    spec.outside.ranges = vec![51, 52];
    spec
}

fn who_finds_what_it_wants_writes_nothing<F: Family>() {
    let mut bench = Bench::<F>::new();
    let node = BTreeSet::from([(51, 1)]);
    bench.set("web", &whole());
    bench.set("empty", &Spec { vip: 2, ..web(&[]) });
    bench.set_node(&node);
    bench.settle();
    let (in_use, _) = (bench.reconciler.in_use(), bench.written());
    bench.restart();
    bench.set("empty", &Spec { vip: 2, ..web(&[]) });
    bench.set("web", &whole());
    bench.set_node(&node);
    bench.settle();
    assert_eq!(bench.written(), []);
    assert_eq!(bench.reconciler.in_use(), in_use);
    assert_eq!((bench.reconciler.pending(), bench.reconciler.failing()), (0, 0));
    bench.delete("web");
    bench.delete("empty");
    bench.set_node(&BTreeSet::new());
    bench.settle();
    bench.assert_safe();
    bench.assert_empty();
}

fn what_has_gone_meanwhile_goes_after_what_has_come<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set("gone", &web(&[(1, Ready, false)]));
    bench.settle();
    bench.restart();
    let _ = bench.written();
    bench.set("new", &Spec { vip: 2, ..web(&[(2, Ready, false)]) });
    let _ = bench.flush();
    let written = bench.written();
    let put = |op: &Op<F>| matches!(op, Op::PutFrontend { frontend, .. } if frontend.service() >= ServiceIndex::FIRST);
    let put = written.iter().position(put).unwrap();
    let removed = written.iter().position(|op| matches!(op, Op::RemoveFrontend { .. })).unwrap();
    assert!(put < removed, "{written:?}");
    let marks = [FrontendKey::whole(address::<F>(96, 1)), FrontendKey::whole(address::<F>(96, 2))];
    let has = marks.map(|key| bench.fake().frontends.contains_key(&key));
    assert_eq!(has, [false, true]);
    assert_eq!(bench.reconciler.in_use(), Rows { services: 1, slots: 1, backends: 1 });
    bench.assert_safe();
}

fn rows_keep_their_meaning_and_generations<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set("web", &web(&[(1, Ready, false), (2, Ready, false)]));
    bench.settle();
    bench.set("web", &web(&[(2, Ready, false)]));
    bench.settle();
    let before = bench.live();
    let (gone, generation) = bench
        .fake()
        .backends
        .iter()
        .find(|(_, backend)| backend.standing == Standing::GONE)
        .map(|(id, backend)| (*id, backend.generation))
        .unwrap();
    bench.restart();
    bench.wait(REST);
    bench.set("web", &web(&[(1, Ready, false), (2, Ready, false)]));
    bench.settle();
    assert!(before.is_subset(&bench.live()));
    // Whether or not it has got the row that it had, nobody takes it for the one before.
    let returned = bench.fake().backends[&gone];
    assert!(returned.generation > generation, "{returned:?}");
    bench.assert_safe();
}

fn what_was_freed_just_before_rests<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set("a", &web(&[(1, Ready, false), (2, Ready, false)]));
    bench.set("b", &Spec { vip: 2, ..web(&[(1, Ready, false)]) });
    bench.settle();
    bench.delete("a");
    bench.delete("b");
    let _ = bench.flush();
    bench.restart();
    for (name, vip) in [("c", 3), ("d", 4), ("e", 5)] {
        bench.set(name, &Spec { vip, ..web(&[(6, Ready, false), (7, Ready, true)]) });
    }
    let outcome = bench.flush();
    assert!(outcome.problems.is_empty(), "{outcome:?}");
    bench.assert_safe();
}

/// Everything fails from some operation on, until another agent takes over.
fn an_agent_may_end_after_any_operation<F: Family>() {
    let world = |bench: &mut Bench<F>| {
        bench.set("web", &whole());
        bench.set("other", &Spec { vip: 2, ..web(&[(1, Ready, false)]) });
        bench.settle();
    };
    let mut bench = Bench::<F>::new();
    live(&mut bench);
    let count = bench.written().len();
    world(&mut bench);
    let expected = bench.fake().dump();
    for n in 0..=count {
        let (mut seen, is_dead) = (0, Rc::new(Cell::new(true)));
        let dead = Rc::clone(&is_dead);
        let mut bench = Bench::<F>::with(Rows::CAPACITY, move |_| {
            let fails = dead.get() && seen >= n;
            seen += 1;
            fails
        });
        live_until(&mut bench);
        is_dead.set(false);
        bench.restart();
        world(&mut bench);
        bench.assert_safe();
        assert_eq!(bench.fake().dump(), expected, "operation {n}");
        bench.delete("web");
        bench.delete("other");
        bench.settle();
        bench.assert_safe();
        bench.assert_empty();
    }
}

/// The life of [`live`], which need not come to rest.
fn live_until<F: Family>(bench: &mut Bench<F>) {
    let settles = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live(bench)));
    drop(settles);
}

fn marks_of_the_node_stay_until_its_addresses_are_known<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set_node(&BTreeSet::from([(51, 1), (51, 2)]));
    bench.settle();
    bench.restart();
    let marks = |bench: &Bench<F>| bench.fake().frontends.len();
    let _ = bench.flush();
    assert_eq!(marks(&bench), 2);
    bench.set_node(&BTreeSet::from([(51, 2)]));
    let _ = bench.flush();
    assert_eq!(marks(&bench), 1);
    bench.restart();
    bench.set_node(&BTreeSet::new());
    let _ = bench.flush();
    assert_eq!(marks(&bench), 0);
}

/// An agent may have ended while it retired one of them.
fn of_two_backends_of_an_endpoint_the_one_in_a_set_stays<F: Family>() {
    for other in [BackendId(90), BackendId(1)] {
        let mut bench = Bench::<F>::new();
        bench.set("none", &Spec { vip: 2, ..web(&[(8, Ready, false)]) });
        bench.set("web", &web(&[(1, Ready, false)]));
        bench.settle();
        bench.delete("none");
        bench.settle();
        let (at, id, _) = bench.live().pop_first().unwrap();
        assert_eq!(at, endpoint(1));
        let stray = Backend {
            generation: 3,
            standing: Standing::default(),
            ..bench.fake().backends[&BackendId(id)]
        };
        let _ = bench.dataplane.inner.backends.insert(other, stray);
        bench.restart();
        let _ = bench.written();
        bench.set("web", &web(&[(1, Ready, false)]));
        bench.settle();
        let backend = Backend { generation: 4, standing: Standing::GONE, ..stray };
        assert_eq!(bench.written(), [Op::RetireBackend { id: other, backend }]);
        assert_eq!(bench.reconciler.in_use(), Rows { services: 1, slots: 1, backends: 1 });
    }
}

fn a_set_that_was_about_to_go_goes<F: Family>() {
    let mut bench = Bench::<F>::new();
    let local = Spec { policy: TrafficPolicy::Local, ..web(&[(1, Ready, true)]) };
    bench.set("web", &local);
    bench.settle();
    bench.set("web", &web(&[(1, Ready, true)]));
    let _ = bench.flush();
    bench.restart();
    bench.set("web", &web(&[(1, Ready, true)]));
    let _ = bench.flush();
    let row = |bench: &Bench<F>| *bench.fake().services.values().next().unwrap();
    assert_ne!(row(&bench).local, BackendSet::REJECT, "a program may have read the policy before");
    bench.settle();
    assert_eq!(row(&bench).local, BackendSet::REJECT);
    assert_eq!(bench.reconciler.in_use(), Rows { services: 1, slots: 1, backends: 1 });
    bench.assert_safe();
}

fn what_makes_no_sense_is_left_alone<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set("a", &web(&[(1, Ready, false)]));
    bench.set("b", &Spec { vip: 2, ..web(&[(1, Ready, false)]) });
    bench.settle();
    let contents = bench.dataplane.take_over().unwrap();
    let refused = |change: fn(&mut Contents<F>)| {
        let mut contents = contents.clone();
        change(&mut contents);
        let mut reconciler = FamilyReconciler::new(Rows::CAPACITY);
        let adopted = reconciler.adopt(contents, REST);
        assert!(matches!(adopted, Err(AdoptError::Contradiction(_))), "{adopted:?}");
    };
    // Two Service ports with the same slots, one with slots that there are not, and one that is there twice.
    refused(|contents| contents.services[1].2 = contents.services[0].2);
    refused(|contents| contents.slots.clear());
    refused(|contents| contents.services.push(contents.services[0]));
    // The same name twice: the second is nobody's, and goes.
    let mut twice = contents.clone();
    twice.services[1].1 = twice.services[0].1;
    bench.reconciler = FamilyReconciler::new(Rows::CAPACITY);
    bench.reconciler.adopt(twice, bench.now.get()).unwrap();
    bench.set("a", &web(&[(1, Ready, false)]));
    bench.settle();
    let port = FrontendKey::new(address::<F>(96, 1), Port::new(80), Protocol::TCP);
    assert!(bench.fake().frontends.contains_key(&port));
    assert_eq!(bench.reconciler.in_use(), Rows { services: 1, slots: 1, backends: 1 });
    bench.assert_safe();
}
