// SPDX-License-Identifier: Apache-2.0
//! Rows of Service ports that flows refer to, which somebody walks through.

use std::time::Duration;

use proxy_common::{Family, frontend::ServiceIndex};

use super::{Bench, Spec, State::Ready, web};
use crate::{
    both_families::in_both_families,
    dataplane::Referred,
    reconcile::{Rows, allocator::REST},
};

in_both_families!(
    a_row_is_its_own_as_long_as_a_flow_refers_to_it,
    a_walk_that_began_too_early_says_nothing,
    rows_that_were_found_wait_for_a_walk_too,
    who_finds_no_row_asks_for_a_walk,
    a_service_that_comes_back_gets_a_row,
);

impl<F: Family> Bench<F> {
    /// A client opens a flow to a Service.
    pub(super) fn open(&mut self, service: &str) -> ServiceIndex {
        let row = self.row(service);
        let fake = &mut self.dataplane.inner;
        fake.flows.push((row, fake.names[&row]));
        row
    }

    /// What the flows refer to.
    pub(super) fn referred(&self) -> Referred {
        let mut referred = Referred::none_of(self.capacity.services + ServiceIndex::FIRST.0);
        self.fake().flows.iter().for_each(|(row, _)| referred.add(*row));
        referred
    }

    /// Somebody walks through all flows, in no time.
    fn walk(&mut self) {
        let referred = self.referred();
        self.reconciler.walked(self.now.get(), &referred);
    }

    /// The row of a Service with one port.
    fn row(&self, service: &str) -> ServiceIndex {
        let is_its =
            |name: &&[u8]| name.split(|byte| *byte == 0).next() == Some(service.as_bytes());
        let mut names = self.fake().names.iter();
        let row = names.find(|(_, name)| is_its(&&name.name[..])).map(|(row, _)| *row);
        row.expect("it has a row")
    }

    /// Adds a Service with one port.
    fn add(&mut self, service: &str, vip: u16) {
        self.set(service, &Spec { vip, ..web(&[(1, Ready, false)]) });
        let _ = self.flush();
    }

    /// The same, and says which row it has got.
    fn row_of_new(&mut self, service: &str, vip: u16) -> ServiceIndex {
        self.add(service, vip);
        self.row(service)
    }

    /// Removes a Service.
    fn remove(&mut self, service: &str) {
        self.delete(service);
        let _ = self.flush();
    }
}

fn a_row_is_its_own_as_long_as_a_flow_refers_to_it<F: Family>() {
    let mut bench = Bench::<F>::new().walked();
    let rows = [bench.row_of_new("a", 1), bench.row_of_new("b", 2)];
    assert_eq!(bench.open("a"), rows[0]);
    bench.remove("a");
    bench.remove("b");
    bench.wait(1_000 * REST);
    let before = bench.row_of_new("c", 3);
    assert!(!rows.contains(&before), "nobody has walked");
    bench.walk();
    assert_eq!(bench.row_of_new("d", 4), rows[1]);
    assert_ne!(bench.row_of_new("e", 5), rows[0], "a flow refers to it");
    bench.dataplane.inner.flows.clear();
    bench.walk();
    assert_eq!(bench.row_of_new("f", 6), rows[0]);
    bench.assert_safe();
}

/// A program may open a flow until what it has read has rested.
fn a_walk_that_began_too_early_says_nothing<F: Family>() {
    let mut bench = Bench::<F>::new().walked();
    let row = bench.row_of_new("a", 1);
    bench.remove("a");
    let moment = Duration::from_nanos(1);
    bench.wait(REST.checked_sub(moment).unwrap());
    bench.walk();
    bench.wait(REST);
    assert_ne!(bench.row_of_new("b", 2), row);
    // One that took a while, too.
    let began = bench.now.get();
    bench.remove("b");
    bench.wait(2 * REST);
    let referred = bench.referred();
    bench.reconciler.walked(began, &referred);
    assert_eq!(bench.row_of_new("c", 3), row, "it had rested");
    bench.remove("c");
    bench.wait(REST);
    bench.walk();
    assert_eq!(bench.row_of_new("d", 4), row);
    bench.assert_safe();
}

fn rows_that_were_found_wait_for_a_walk_too<F: Family>() {
    let mut bench = Bench::<F>::new().walked();
    let rows = [bench.row_of_new("a", 1), bench.row_of_new("b", 2)];
    let _ = bench.open("a");
    bench.remove("a");
    bench.restart();
    // This one knows of the second Service that it is gone.
    let _ = bench.flush();
    bench.wait(REST);
    assert!(!rows.contains(&bench.row_of_new("c", 3)));
    bench.walk();
    assert_eq!(bench.row_of_new("d", 4), rows[1]);
    bench.restart();
    bench.add("c", 3);
    bench.add("d", 4);
    bench.wait(REST);
    bench.walk();
    assert_ne!(bench.row_of_new("e", 5), rows[0]);
    bench.dataplane.inner.flows.clear();
    bench.walk();
    assert_eq!(bench.row_of_new("f", 6), rows[0]);
    bench.assert_safe();
}

fn who_finds_no_row_asks_for_a_walk<F: Family>() {
    let capacity = Rows { services: 2, ..Rows::CAPACITY };
    let mut bench = Bench::<F>::with(capacity, |_| false).walked();
    let rows = [bench.row_of_new("a", 1), bench.row_of_new("b", 2)];
    let _ = bench.open("a");
    bench.remove("a");
    bench.remove("b");
    assert_eq!(bench.reconciler.next(), None, "nobody needs one");
    bench.set("c", &Spec { vip: 3, ..web(&[(1, Ready, false)]) });
    let outcome = bench.flush();
    let [problem] = &outcome.problems[..] else { panic!("{outcome:?}") };
    let told = "no room for 1 more in the table of Service ports: --max-services makes it larger; \
                2 rows are kept for flows of Services that have gone";
    assert_eq!(problem.error.to_string(), told);
    assert!(!bench.reconciler.take_wish_to_walk(bench.now.get()), "they have not rested");
    // It would be tried again and again.
    bench.wait(REST);
    assert!(bench.reconciler.take_wish_to_walk(bench.now.get()));
    assert!(!bench.reconciler.take_wish_to_walk(bench.now.get()), "once");
    bench.walk();
    let outcome = bench.flush();
    assert!(outcome.problems.is_empty(), "{outcome:?}");
    assert_eq!(bench.row("c"), rows[1]);
    // The other row is a flow's, and so there is no room, however often somebody walks.
    bench.set("d", &Spec { vip: 4, ..web(&[(1, Ready, false)]) });
    for _ in 0..5 {
        assert_eq!(bench.flush().problems.len(), 1);
        assert!(bench.reconciler.take_wish_to_walk(bench.now.get()));
        bench.walk();
        bench.wait(Duration::from_mins(1));
    }
    bench.dataplane.inner.flows.clear();
    bench.walk();
    assert!(bench.flush().problems.is_empty());
    assert_eq!((bench.row("d"), bench.reconciler.failing()), (rows[0], 0));
    bench.assert_safe();
}

fn a_service_that_comes_back_gets_a_row<F: Family>() {
    let mut bench = Bench::<F>::new().walked();
    let row = bench.row_of_new("a", 1);
    let _ = bench.open("a");
    // Nobody has seen that it was gone.
    bench.delete("a");
    assert_eq!(bench.row_of_new("a", 1), row);
    bench.remove("a");
    let after = bench.row_of_new("a", 1);
    assert_ne!(after, row);
    bench.wait(REST);
    bench.walk();
    bench.remove("a");
    assert_ne!(bench.row_of_new("a", 1), row);
    bench.assert_safe();
}
