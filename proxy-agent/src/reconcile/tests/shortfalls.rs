// SPDX-License-Identifier: Apache-2.0
//! What is said of what is missing.

use std::{cell::Cell, rc::Rc, time::Duration};

use proxy_common::{
    Family,
    map_names::family_ending,
    name::text,
    shortfall::{Cause, MAX_SHORTFALLS, OTHERS},
};

use super::{Bench, Spec, State::*, web};
use crate::{both_families::in_both_families, dataplane::Op, reconcile::Rows};

in_both_families!(
    a_full_table_is_named_with_the_port_until_there_is_room,
    who_does_not_have_a_frontend_is_named_until_it_has,
    an_attempt_that_fails_is_told_of_until_it_succeeds,
    no_more_are_told_of_than_there_are_rows,
    what_an_earlier_agent_has_said_is_replaced,
    what_could_not_be_said_is_said_later,
);

fn at(vip: u16, created: i64) -> Spec {
    Spec { vip, created: Some(created), ..web(&[(vip, Ready, false)]) }
}

/// What is said, by row: whose it is, why, in which table, and in words.
fn said<F: Family>(bench: &Bench<F>) -> Vec<(String, Cause, String, String)> {
    let read = |words: &[u8]| text(words).unwrap().to_owned();
    let rows = bench.fake().shortfalls.values();
    let told = rows.map(|row| {
        let service = [&row.service.namespace, &row.service.name, &row.service.port];
        let name = service.map(|label| read(label)).join("/");
        (name, row.cause, read(&row.table), read(&row.message))
    });
    told.collect()
}

fn table<F: Family>(base: &str) -> String {
    format!("{base}{}", family_ending::<F>())
}

fn a_full_table_is_named_with_the_port_until_there_is_room<F: Family>() {
    let mut bench = Bench::<F>::with(Rows { services: 1, slots: 3, backends: 3 }, |_| false);
    bench.set("a", &at(1, 1));
    bench.settle();
    assert_eq!(said(&bench), []);
    bench.set("b", &at(2, 1));
    let _ = bench.flush();
    let words = "no room for 1 more in the table of Service ports: --max-services makes it larger";
    let expected = ("ns/b/http".to_owned(), Cause::FULL, table::<F>("SERVICES"), words.to_owned());
    assert_eq!(said(&bench), [expected]);
    bench.delete("a");
    bench.settle();
    assert_eq!(said(&bench), []);
    bench.delete("b");
    bench.settle();
    bench.assert_empty();
}

fn who_does_not_have_a_frontend_is_named_until_it_has<F: Family>() {
    let mut bench = Bench::<F>::new();
    for (name, created) in [("a", 9), ("b", 5), ("c", 7)] {
        bench.set(name, &at(1, created));
    }
    bench.settle();
    let losers = |bench: &Bench<F>| -> Vec<_> {
        let told = said(bench).into_iter().map(|(name, cause, table_of, words)| {
            assert_eq!((cause, table_of), (Cause::CONTESTED, table::<F>("FRONTENDS")));
            let winner = words.rsplit(' ').next().unwrap().to_owned();
            format!("{name} {winner}")
        });
        let mut told: Vec<_> = told.collect();
        told.sort();
        told
    };
    assert_eq!(losers(&bench), ["ns/a/http ns/b", "ns/c/http ns/b"]);
    bench.delete("b");
    bench.settle();
    assert_eq!(losers(&bench), ["ns/a/http ns/c"]);
    bench.delete("c");
    bench.settle();
    assert_eq!(said(&bench), []);
}

fn an_attempt_that_fails_is_told_of_until_it_succeeds<F: Family>() {
    let fails = Rc::new(Cell::new(true));
    let is_failing = Rc::clone(&fails);
    let mut bench = Bench::<F>::with(Rows::CAPACITY, move |op| {
        is_failing.get() && matches!(op, Op::PutFrontend { key, .. } if key.port.number() == 80)
    });
    bench.set("a", &at(1, 1));
    let _ = bench.flush();
    let [(name, Cause::OTHER, _, words)] = &said(&bench)[..] else { panic!("{:?}", said(&bench)) };
    assert_eq!(name, "ns/a/http");
    assert!(
        words.starts_with("cannot add a frontend (") && words.ends_with(":80/TCP): chosen to fail")
    );
    // Neither does it begin anew with each attempt.
    bench.wait(Duration::from_secs(40));
    let _ = bench.flush();
    assert_eq!(said(&bench).len(), 1);
    fails.set(false);
    bench.settle();
    assert_eq!(said(&bench), []);
}

fn no_more_are_told_of_than_there_are_rows<F: Family>() {
    let mut bench = Bench::<F>::with(Rows { services: 0, slots: 3, backends: 3 }, |_| false);
    bench.dataplane.inner = crate::dataplane::fake::Fake::unchecked();
    let rows = u16::try_from(MAX_SHORTFALLS).unwrap();
    let name = |vip: u16| format!("s{vip:05}");
    for vip in 1..=rows + 2 {
        bench.set(&name(vip), &at(vip, 1));
    }
    let _ = bench.flush();
    let others = |bench: &Bench<F>| bench.fake().shortfalls.get(&OTHERS).map(|row| row.count);
    let told = |bench: &Bench<F>| bench.fake().shortfalls.len();
    assert_eq!((told(&bench), others(&bench)), (usize::from(rows) + 1, Some(2)));
    bench.delete(&name(1));
    let _ = bench.flush();
    assert_eq!((told(&bench), others(&bench)), (usize::from(rows) + 1, Some(1)));
    bench.delete(&name(2));
    bench.delete(&name(rows + 2));
    let _ = bench.flush();
    assert_eq!((told(&bench), others(&bench)), (usize::from(rows) - 1, None));
    for vip in 3..=rows + 1 {
        bench.delete(&name(vip));
    }
    bench.settle();
    assert_eq!(told(&bench), 0);
}

fn what_an_earlier_agent_has_said_is_replaced<F: Family>() {
    let fails = Rc::new(Cell::new(true));
    let is_failing = Rc::clone(&fails);
    let mut bench = Bench::<F>::with(Rows::CAPACITY, move |op| {
        is_failing.get() && matches!(op, Op::PutName { .. })
    });
    bench.set("a", &at(1, 1));
    bench.set("b", &at(2, 1));
    let _ = bench.flush();
    assert_eq!(said(&bench).len(), 2);
    bench.restart();
    assert_eq!(said(&bench).len(), 2, "until all is known");
    bench.set("b", &at(2, 1));
    let _ = bench.flush();
    let names: Vec<_> = said(&bench).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["ns/b/http"]);
    fails.set(false);
    bench.settle();
    assert_eq!(said(&bench), []);
}

fn what_could_not_be_said_is_said_later<F: Family>() {
    let fails = Rc::new(Cell::new(true));
    let is_failing = Rc::clone(&fails);
    let mut bench = Bench::<F>::with(Rows { services: 1, slots: 3, backends: 3 }, move |op| {
        is_failing.get() && matches!(op, Op::PutShortfall { .. })
    });
    bench.set("a", &at(1, 1));
    bench.set("b", &at(2, 1));
    bench.set("c", &at(3, 1));
    let _ = bench.flush();
    assert_eq!((said(&bench).len(), bench.reconciler.failing()), (0, 3));
    fails.set(false);
    bench.wait(Duration::from_secs(1));
    let _ = bench.flush();
    assert_eq!((said(&bench).len(), bench.reconciler.failing()), (2, 2));
    bench.delete("b");
    bench.delete("c");
    bench.settle();
    assert_eq!((said(&bench).len(), bench.reconciler.failing()), (0, 0));
}
