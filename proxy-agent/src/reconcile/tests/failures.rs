// SPDX-License-Identifier: Apache-2.0
//! What becomes of failed operations and of full tables.

use std::{cell::Cell, rc::Rc, time::Duration};

use proxy_common::{
    Family, Port, Protocol,
    frontend::{FrontendKey, ServiceIndex},
};

use super::{Bench, Spec, State::*, web};
use crate::{
    both_families::in_both_families,
    dataplane::{Op, fake::Fake},
    model::TrafficPolicy,
    reconcile::{Exhausted, ReconcileError, Rows, allocator::REST},
};

in_both_families!(
    every_operation_may_fail_once,
    one_service_that_fails_does_not_stop_the_others,
    several_that_fail_while_none_goes_on_are_stuck,
    a_full_table_stops_only_those_that_need_room,
    no_room_for_marks_holds_nothing_up,
    the_cost_of_a_change_does_not_depend_on_how_many_services_there_are,
);

/// A life that uses every operation.
pub(super) fn live<F: Family>(bench: &mut Bench<F>) {
    let mut spec = web(&[(1, Ready, true), (2, Ready, false)]);
    spec.outside.load_balancer_ips = vec![(97, 1)];
    spec.outside.ranges = vec![51, 52];
    let other = Spec { created: Some(-1), ..web(&[(3, Ready, false)]) };
    bench.set("web", &spec);
    let _ = bench.flush();
    spec.endpoints[1].1 = Gone;
    spec.policy = TrafficPolicy::Local;
    spec.outside.node_port = Some(30_000);
    spec.outside.ranges = vec![53];
    bench.set("web", &spec);
    let _ = bench.flush();
    bench.wait(REST / 2);
    bench.set("older", &other);
    let _ = bench.flush();
    bench.delete("web");
    let _ = bench.flush();
    bench.wait(REST);
    bench.set("web", &spec);
    bench.delete("older");
    let _ = bench.flush();
    bench.settle();
}

fn every_operation_may_fail_once<F: Family>() {
    let mut bench = Bench::<F>::new();
    live(&mut bench);
    let expected = bench.fake().dump();
    let count = bench.written().len();
    assert!(count > 30, "{count}");
    for n in 0..count + 5 {
        let mut seen = 0..;
        let mut bench = Bench::<F>::with(Rows::CAPACITY, move |_| seen.next() == Some(n));
        live(&mut bench);
        bench.assert_safe();
        assert_eq!(bench.fake().dump(), expected, "operation {n}");
        bench.delete("web");
        bench.settle();
        bench.assert_safe();
        bench.assert_empty();
    }
}

fn one_service_that_fails_does_not_stop_the_others<F: Family>() {
    let bad = super::address::<F>(244, 66);
    let mut bench = Bench::<F>::with(
        Rows::CAPACITY,
        move |op| matches!(op, Op::PutBackend { backend, .. } if backend.address == bad),
    );
    let on = |vip, host| Spec { vip, ..web(&[(host, Ready, false)]) };
    bench.set("a", &on(1, 66));
    bench.set("b", &on(2, 1));
    let outcome = bench.flush();
    let [problem] = &outcome.problems[..] else { panic!() };
    assert_eq!(problem.service.to_string(), "ns/a");
    assert_eq!(problem.error.to_string(), "cannot write a backend");
    assert_eq!((bench.reconciler.pending(), bench.reconciler.failing()), (1, 1));
    // The port, the VIP and the endpoint of b.
    assert_eq!(bench.fake().frontends.len(), 3);
    // It waits, but not when it changes.
    assert_eq!(bench.flush().problems.len(), 0);
    bench.wait(Duration::from_millis(100));
    assert_eq!(bench.flush().problems.len(), 1);
    bench.set("a", &on(1, 2));
    assert_eq!(bench.flush().problems.len(), 0);
    assert_eq!(bench.fake().frontends.len(), 6);
    assert_eq!((bench.reconciler.pending(), bench.reconciler.failing()), (0, 0));
    bench.assert_safe();
}

fn several_that_fail_while_none_goes_on_are_stuck<F: Family>() {
    let works = Rc::new(Cell::new(false));
    let is_working = Rc::clone(&works);
    // As where backends are in memory and frontends are not: each Service begins well.
    let mut bench = Bench::<F>::with(Rows::CAPACITY, move |op| {
        !is_working.get() && matches!(op, Op::PutFrontend { .. })
    });
    let mut stuck = |name: &str, host| {
        bench.set(name, &Spec { vip: host, ..web(&[(host, Ready, false)]) });
        let _ = bench.flush();
        bench.reconciler.is_stuck()
    };
    assert!(!stuck("a", 1), "it may be its own fault");
    assert!(stuck("b", 2));
    works.set(true);
    assert!(!stuck("c", 3), "the two are tried later, but are not all");
    works.set(false);
    assert!(!stuck("a", 4), "it is known");
    assert!(!stuck("d", 5));
    assert!(stuck("e", 6));
    bench.delete("e");
    let _ = bench.flush();
    assert!(!bench.reconciler.is_stuck(), "one is left");
}

fn a_full_table_stops_only_those_that_need_room<F: Family>() {
    let capacity = Rows { services: 2, slots: 3, backends: 3 };
    let mut bench = Bench::<F>::with(capacity, |_| false);
    let spec = |vip, hosts: &[u16]| Spec {
        vip,
        ..web(&hosts.iter().map(|host| (*host, Ready, false)).collect::<Vec<_>>())
    };
    bench.set("a", &spec(1, &[1, 2, 3, 4]));
    bench.set("b", &spec(2, &[1]));
    let outcome = bench.flush();
    let full = |problem: &ReconcileError| match problem {
        ReconcileError::Exhausted(Exhausted { table, .. }) => Some(*table),
        ReconcileError::Apply { .. } => None,
    };
    let problems: Vec<_> = outcome.problems.iter().map(|problem| full(&problem.error)).collect();
    // The rows that `a` has got it keeps, so that `b` has none either.
    assert_eq!(problems, [Some("backends"), Some("backends")]);
    assert!(!bench.reconciler.is_stuck(), "they do not fit");
    bench.set("a", &spec(1, &[1]));
    bench.settle();
    assert_eq!(bench.reconciler.failing(), 0);
    assert_eq!(bench.reconciler.in_use(), Rows { services: 2, slots: 2, backends: 2 });
    bench.set("c", &spec(3, &[]));
    let outcome = bench.flush();
    assert_eq!(full(&outcome.problems[0].error), Some("Service ports"));
    bench.delete("a");
    bench.settle();
    assert_eq!(bench.reconciler.failing(), 0);
    bench.assert_safe();
}

fn no_room_for_marks_holds_nothing_up<F: Family>() {
    let full = Rc::new(Cell::new(true));
    let is_full = Rc::clone(&full);
    let mut bench = Bench::<F>::with(Rows::CAPACITY, move |op| {
        is_full.get()
            && matches!(op, Op::PutFrontend { frontend, .. } if *frontend == ServiceIndex::DIRECT.into())
    });
    bench.set("web", &web(&[(1, Ready, false)]));
    assert_eq!(bench.flush().problems.len(), 1);
    bench.set("more", &Spec { vip: 2, ..web(&[(3, Ready, false)]) });
    assert_eq!(bench.flush().problems.len(), 1);
    assert!(!bench.reconciler.is_stuck(), "nobody waits for them");
    bench.delete("more");
    let _ = bench.flush();
    let vip = FrontendKey::new(super::address::<F>(96, 1), Port::new(80), Protocol::TCP);
    assert!(bench.fake().frontends.contains_key(&vip));
    bench.set("web", &web(&[(2, Ready, false)]));
    assert_eq!(bench.flush().problems.len(), 1);
    let live: Vec<_> = bench.live().into_iter().map(|(endpoint, ..)| endpoint).collect();
    assert_eq!(live, [super::endpoint::<F>(2)], "the endpoint that is gone is retired");
    assert_eq!((bench.reconciler.pending(), bench.reconciler.failing()), (1, 1));
    full.set(false);
    bench.settle();
    assert_eq!(bench.fake().frontends.len(), 3);
    bench.delete("web");
    full.set(true);
    bench.settle();
    bench.assert_safe();
    bench.assert_empty();
}

fn the_cost_of_a_change_does_not_depend_on_how_many_services_there_are<F: Family>() {
    let cost = |count: u16| {
        let mut bench = Bench::<F>::new();
        // Checking every table after every write is not what is measured.
        bench.dataplane.inner = Fake::unchecked();
        let spec = |vip, state| Spec {
            vip,
            ..web(&[(1, Ready, false), (2, Ready, true), (vip, state, false)])
        };
        for vip in 10..10 + count {
            bench.set(&format!("s{vip}"), &spec(vip, Ready));
        }
        bench.settle();
        let _ = bench.written();
        bench.set("s11", &spec(11, Gone));
        let _ = bench.flush();
        bench.written().len()
    };
    assert_eq!(cost(10), 4);
    assert_eq!(cost(5_000), 4);
}
