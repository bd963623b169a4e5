// SPDX-License-Identifier: Apache-2.0
//! Full tables: who is there goes on, who goes makes room, even for its own Service, and what there is no room for
//! comes by itself.

use std::time::Duration;

use proxy_common::{
    Family, Port, Protocol,
    frontend::{Frontend, FrontendKey, FrontendKind, ServiceIndex},
};

use super::{Bench, Spec, State::*, address, endpoint, web};
use crate::{
    both_families::in_both_families,
    dataplane::Op,
    reconcile::{Rows, allocator::REST},
};

in_both_families!(
    endpoints_that_go_leave_their_rows_to_those_that_come,
    a_port_that_goes_leaves_its_row_to_one_that_comes,
    who_has_no_row_refuses_at_once,
    a_set_without_slots_loses_those_that_go,
    a_set_without_slots_gets_what_there_are,
    a_frontend_that_goes_leaves_its_place_to_one_that_comes,
    an_address_of_the_node_that_goes_leaves_its_place,
    a_range_that_goes_leaves_its_place_to_one_that_comes,
);

impl<F: Family> Bench<F> {
    /// What new flows to a Service's cluster IP choose from, by the last parts of the addresses; nothing if there is no
    /// such frontend.
    fn chosen(&self, vip: u16, port: u16) -> Option<Vec<F::Addr>> {
        let fake = self.fake();
        let key = FrontendKey::new(address::<F>(96, vip), Port::new(port), Protocol::TCP);
        let row = fake.frontends.get(&key)?.service();
        let set = fake.services.get(&row)?.cluster;
        let slots = set.start()..set.start() + set.count();
        Some(slots.map(|slot| fake.backends[&fake.slots[&slot]].address).collect())
    }

    /// Asserts that new flows to the cluster IP with this last part choose from these.
    fn assert_chosen(&self, vip: u16, hosts: &[u16]) {
        let pods: Vec<_> = hosts.iter().map(|host| address::<F>(244, *host)).collect();
        assert_eq!(self.chosen(vip, 80), Some(pods), "Service {vip}");
    }

    /// How many Services fail at their next attempts, after so long.
    fn failing_after(&mut self, time: Duration) -> usize {
        self.wait(time);
        let _ = self.flush();
        self.reconciler.failing()
    }
}

/// A Service with these endpoints.
fn on(vip: u16, hosts: &[u16]) -> Spec {
    Spec { vip, ..web(&hosts.iter().map(|host| (*host, Ready, false)).collect::<Vec<_>>()) }
}

fn endpoints_that_go_leave_their_rows_to_those_that_come<F: Family>() {
    let capacity = Rows { backends: 3, ..Rows::CAPACITY };
    let mut bench = Bench::<F>::with(capacity, |_| false);
    bench.set("a", &on(1, &[1]));
    bench.set("b", &on(2, &[1, 2]));
    let _ = bench.flush();
    // One comes: no room. Those that are there serve.
    bench.set("b", &on(2, &[1, 2, 3]));
    let outcome = bench.flush();
    assert_eq!(outcome.problems.len(), 1);
    let told = "no room for 1 more in the table of backends: --max-endpoints makes it larger";
    assert_eq!(outcome.problems[0].error.to_string(), told);
    bench.assert_chosen(2, &[1, 2]);
    // One goes as well: nobody is sent to it any more, and its row is the other's when it has rested.
    bench.set("b", &on(2, &[2, 3]));
    assert_eq!(bench.flush().problems.len(), 1);
    bench.assert_chosen(2, &[2]);
    let live: Vec<_> = bench.live().into_iter().map(|(endpoint, ..)| endpoint).collect();
    assert_eq!(live, [endpoint::<F>(1), endpoint(2)]);
    assert_eq!(bench.failing_after(REST), 0);
    bench.assert_chosen(2, &[2, 3]);
    // All of them are others.
    bench.set("b", &on(2, &[4, 5]));
    let _ = bench.flush();
    bench.assert_chosen(2, &[]);
    bench.assert_chosen(1, &[1]);
    assert_eq!(bench.failing_after(REST), 0);
    bench.assert_chosen(2, &[4, 5]);
    bench.assert_chosen(1, &[1]);
    bench.assert_safe();
}

fn a_port_that_goes_leaves_its_row_to_one_that_comes<F: Family>() {
    let capacity = Rows { services: 2, ..Rows::CAPACITY };
    let mut bench = Bench::<F>::with(capacity, |_| false);
    let port = |number| Spec { ports: vec![("http", Protocol::TCP, number)], ..on(1, &[1]) };
    bench.set("a", &port(80));
    bench.set("b", &on(2, &[1]));
    let _ = bench.flush();
    // Its node port goes with it, from one port to the other.
    let mut other = port(81);
    other.outside.node_port = Some(30_000);
    let mut first = port(80);
    first.outside.node_port = Some(30_000);
    bench.set("a", &first);
    assert!(bench.flush().problems.is_empty());
    bench.set("a", &other);
    assert_eq!(bench.flush().problems.len(), 1);
    assert_eq!((bench.chosen(1, 80), bench.chosen(1, 81)), (None, None));
    bench.assert_chosen(2, &[1]);
    assert_eq!(bench.failing_after(REST), 0);
    assert_eq!(bench.chosen(1, 81), Some(vec![address::<F>(244, 1)]));
    let node_port = FrontendKey::node_port(Port::new(30_000), Protocol::TCP);
    assert!(bench.fake().frontends.contains_key(&node_port));
    bench.assert_safe();
}

/// By the mark of its address, until it has one.
fn who_has_no_row_refuses_at_once<F: Family>() {
    let capacity = Rows { services: 1, ..Rows::CAPACITY };
    let mut bench = Bench::<F>::with(capacity, |_| false);
    bench.set("a", &on(1, &[1]));
    bench.set("b", &on(2, &[2]));
    assert_eq!(bench.flush().problems.len(), 1);
    let whole = FrontendKey::whole(address::<F>(96, 2));
    assert_eq!(bench.fake().frontends.get(&whole), Some(&ServiceIndex::REFUSE.into()));
    assert_eq!(bench.chosen(2, 80), None);
    bench.delete("a");
    let _ = bench.flush();
    assert_eq!(bench.failing_after(REST), 0);
    bench.assert_chosen(2, &[2]);
    bench.delete("b");
    bench.settle();
    bench.assert_safe();
    bench.assert_empty();
}

fn a_set_without_slots_loses_those_that_go<F: Family>() {
    let capacity = Rows { slots: 4, ..Rows::CAPACITY };
    let mut bench = Bench::<F>::with(capacity, |_| false);
    bench.set("a", &on(1, &[1, 2, 3, 4]));
    let _ = bench.flush();
    // Of the four slots, two that are together.
    bench.set("a", &on(1, &[1, 3, 4]));
    let outcome = bench.flush();
    let told = "no room for 3 more in the table of slots: --max-endpoints makes it larger";
    assert_eq!(outcome.problems[0].error.to_string(), told);
    bench.assert_chosen(1, &[3, 4]);
    // Two are free now, and two in use.
    assert_eq!(bench.failing_after(REST), 1);
    bench.assert_chosen(1, &[3, 4]);
    assert!(!bench.live().iter().any(|(at, ..)| *at == endpoint(2)), "it has not gone");
    bench.set("a", &on(1, &[1, 3]));
    assert!(bench.flush().problems.is_empty());
    bench.assert_chosen(1, &[1, 3]);
    // Nobody of before stays, and there is no room at all: nobody, until there is.
    bench.set("a", &on(1, &[5, 6, 7, 8]));
    assert_eq!(bench.flush().problems.len(), 1);
    bench.assert_chosen(1, &[]);
    bench.settle();
    bench.assert_chosen(1, &[5, 6, 7, 8]);
    bench.delete("a");
    bench.settle();
    bench.assert_safe();
    bench.assert_empty();
}

fn a_set_without_slots_gets_what_there_are<F: Family>() {
    let capacity = Rows { slots: 4, ..Rows::CAPACITY };
    let mut bench = Bench::<F>::with(capacity, |_| false);
    bench.set("b", &on(2, &[6]));
    assert!(bench.flush().problems.is_empty());
    bench.set("a", &on(1, &[1, 2, 3, 4]));
    assert_eq!(bench.flush().problems.len(), 1);
    bench.assert_chosen(1, &[1, 2, 3]);
    bench.assert_chosen(2, &[6]);
    assert_eq!(bench.failing_after(Duration::from_mins(1)), 1);
    bench.assert_chosen(1, &[1, 2, 3]);
    bench.delete("b");
    bench.set("a", &on(1, &[1]));
    bench.settle();
    bench.assert_chosen(1, &[1]);
    bench.assert_safe();
}

/// Tables with room for so many frontends.
fn with_frontends<F: Family>(room: usize) -> Bench<F> {
    let mut count = 0;
    Bench::with(Rows::CAPACITY, move |op| match op {
        Op::PutFrontend { .. } if count == room => true,
        Op::PutFrontend { .. } => {
            count += 1;
            false
        }
        Op::RemoveFrontend { .. } => {
            count -= 1;
            false
        }
        _ => false,
    })
}

fn an_address_of_the_node_that_goes_leaves_its_place<F: Family>() {
    let mut bench = with_frontends::<F>(2);
    let marks = |bench: &Bench<F>| -> Vec<_> {
        bench.fake().frontends.keys().map(|key| key.address).collect()
    };
    for hosts in [[1, 2], [1, 3], [3, 4], [1, 2]] {
        bench.set_node(&hosts.map(|host| (51, host)).into());
        let _ = bench.flush();
        assert_eq!(marks(&bench), hosts.map(|host| address::<F>(51, host)));
    }
    bench.set_node(&[1, 2, 3].map(|host| (51, host)).into());
    let _ = bench.flush();
    assert_eq!((marks(&bench).len(), bench.reconciler.failing()), (2, 1));
    bench.set_node(&[(51, 3)].into());
    bench.settle();
    assert_eq!(marks(&bench), [address::<F>(51, 3)]);
    bench.assert_safe();
}

fn a_frontend_that_goes_leaves_its_place_to_one_that_comes<F: Family>() {
    // The cluster IP, its mark, and the node port.
    let mut bench = with_frontends::<F>(3);
    let node_port = |number| {
        let mut spec = on(1, &[]);
        spec.outside.node_port = Some(number);
        spec
    };
    bench.set("a", &node_port(30_000));
    assert!(bench.flush().problems.is_empty());
    bench.set("a", &node_port(30_001));
    let outcome = bench.flush();
    assert!(outcome.problems[0].error.to_string().starts_with("cannot add a frontend ("));
    bench.assert_chosen(1, &[]);
    assert_eq!(bench.failing_after(Duration::from_millis(100)), 0);
    let row = |bench: &Bench<F>, number| {
        let key = FrontendKey::node_port(Port::new(number), Protocol::TCP);
        bench.fake().frontends.get(&key).copied()
    };
    assert_eq!(row(&bench, 30_000), None);
    assert_eq!(row(&bench, 30_001).map(Frontend::kind), Some(FrontendKind::NodePort));
    bench.assert_safe();
}

fn a_range_that_goes_leaves_its_place_to_one_that_comes<F: Family>() {
    let mut count = 0;
    let mut bench = Bench::<F>::with(Rows::CAPACITY, move |op| match op {
        Op::PutSourceRange { .. } if count == 2 => true,
        Op::PutSourceRange { .. } => {
            count += 1;
            false
        }
        Op::RemoveSourceRange { .. } => {
            count -= 1;
            false
        }
        _ => false,
    });
    let spec = |ranges: &[u16], hosts: &[u16]| {
        let mut spec = on(1, hosts);
        spec.outside.load_balancer_ips = vec![(97, 1)];
        spec.outside.ranges = ranges.to_vec();
        spec
    };
    bench.set("a", &spec(&[51, 52], &[1, 2]));
    assert!(bench.flush().problems.is_empty());
    bench.set("a", &spec(&[51, 53], &[2]));
    let outcome = bench.flush();
    assert!(outcome.problems[0].error.to_string().starts_with("cannot admit a source range ("));
    // Whatever becomes of the ranges, nobody is sent to who has gone.
    bench.assert_chosen(1, &[2]);
    assert_eq!(bench.live().len(), 1);
    let count = |bench: &Bench<F>| bench.fake().source_ranges.len();
    assert_eq!(count(&bench), 1, "who is not to be admitted any more is not");
    assert_eq!(bench.failing_after(Duration::from_millis(100)), 0);
    assert_eq!(count(&bench), 2);
    bench.delete("a");
    bench.settle();
    bench.assert_safe();
    bench.assert_empty();
}
