// SPDX-License-Identifier: Apache-2.0
//! What lists and events change.

use super::*;
use crate::model::Service;

fn version(number: u64) -> Option<Version> {
    Version::new(Some(&number.to_string()))
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("ns", name)
}

/// A Service whose address tells its versions apart.
fn item(called: &str, number: u64) -> Item {
    let address = [10, 0, 0, u8::try_from(number % 250).unwrap()];
    let service =
        Service { name: name(called), cluster_ips: vec![address.into()], ..Service::default() };
    let content = Content::Served(Object::Service(service));
    Item { name: name(called), version: version(number), content }
}

/// What events say, in a word each.
fn words(events: impl IntoIterator<Item = Event>) -> Vec<String> {
    let word = |event| match event {
        Event::Apply(Object::Service(service)) => {
            format!("{}={}", service.name.name, service.cluster_ips[0])
        }
        Event::Delete(key) => format!("-{}", key.name.name),
        other => panic!("{other:?}"),
    };
    let mut words: Vec<_> = events.into_iter().map(word).collect();
    words.sort();
    words
}

fn known(items: Vec<Item>, number: u64) -> Known {
    let mut known = Known::new(Kind::Service);
    drop(replace(&mut known, items, number));
    known
}

/// Takes a complete list.
fn replace(known: &mut Known, items: Vec<Item>, number: u64) -> Vec<Event> {
    let gone = known.begin_list(&items, version(number));
    items.into_iter().filter_map(|item| known.listed(item)).chain(gone).collect()
}

#[test]
fn a_list_is_compared() {
    let mut known = Known::new(Kind::Service);
    let first = replace(&mut known, vec![item("a", 1), item("b", 2), item("c", 3)], 3);
    assert_eq!(words(first), ["a=10.0.0.1", "b=10.0.0.2", "c=10.0.0.3"]);
    let second = replace(&mut known, vec![item("a", 1), item("b", 5), item("d", 6)], 6);
    assert_eq!(words(second), ["-c", "b=10.0.0.5", "d=10.0.0.6"]);
    let same = replace(&mut known, vec![item("a", 1), item("b", 5), item("d", 6)], 9);
    assert_eq!(words(same), [] as [&str; 0]);
    // Another version, but nothing that matters has changed.
    let touched = Item { version: version(10), ..item("a", 1) };
    let touched = replace(&mut known, vec![touched, item("b", 5), item("d", 6)], 10);
    assert_eq!(words(touched), [] as [&str; 0]);
}

#[test]
fn a_list_is_the_truth_though_its_versions_have_gone_back() {
    let mut known = known(vec![item("a", 100), item("b", 101)], 101);
    assert_eq!(words(replace(&mut known, vec![item("a", 50)], 60)), ["-b", "a=10.0.0.50"]);
    assert_eq!(words(known.apply(item("a", 61))), ["a=10.0.0.61"]);
}

#[test]
fn late_and_repeated_events_change_nothing() {
    let mut known = known(vec![item("a", 1)], 10);
    assert_eq!(words(known.apply(item("a", 12))), ["a=10.0.0.12"]);
    for late in [12, 11, 9, 1] {
        assert_eq!(known.apply(item("a", late)), None, "{late}");
    }
    assert_eq!(known.delete(name("a"), version(11)), None, "it has changed since");
    assert_eq!(words(known.delete(name("a"), version(13))), ["-a"]);
    assert_eq!(known.delete(name("a"), version(13)), None);
    for late in [13, 12] {
        assert_eq!(known.apply(item("a", late)), None, "{late} would bring it back");
    }
    assert_eq!(words(known.apply(item("a", 14))), ["a=10.0.0.14"], "it was made again");
    assert_eq!(known.delete(name("a"), version(13)), None, "its predecessor's deletion, again");
}

#[test]
fn what_is_older_than_the_list_is_late_whatever_it_is_about() {
    let mut known = known(vec![item("a", 1)], 10);
    assert_eq!(words(known.delete(name("a"), version(11))), ["-a"]);
    assert_eq!(words(replace(&mut known, vec![item("b", 2)], 12)), ["b=10.0.0.2"]);
    assert_eq!(known.apply(item("a", 9)), None, "though its deletion has been forgotten");
}

#[test]
fn versions_that_cannot_be_compared_are_taken_as_they_come() {
    let mut known = Known::new(Kind::Service);
    let odd = |text| Item { version: Version::new(Some(text)), ..item("a", 1) };
    assert_eq!(words(known.apply(odd("x2"))), ["a=10.0.0.1"]);
    assert_eq!(words(known.delete(name("a"), Version::new(Some("x1")))), ["-a"]);
    assert_eq!(words(known.apply(odd("x1b"))), ["a=10.0.0.1"]);
}

#[test]
fn an_object_that_cannot_be_used_stays_what_it_was() {
    let mut known = known(vec![item("a", 1)], 1);
    let unusable = |number| Item { content: Content::Unusable, ..item("a", number) };
    assert_eq!(known.apply(unusable(2)), None);
    assert_eq!(words(replace(&mut known, vec![unusable(3)], 3)), [] as [&str; 0]);
    assert_eq!(known.apply(item("a", 2)), None, "older than what could not be used");
    assert_eq!(words(known.delete(name("a"), version(4))), ["-a"]);
}

#[test]
fn what_turns_away_from_proxies_is_deleted_once() {
    let mut known = known(vec![item("a", 1)], 1);
    let headless = |number| Item { content: Content::NotServed, ..item("a", number) };
    assert_eq!(words(known.apply(headless(2))), ["-a"]);
    assert_eq!(known.apply(headless(3)), None);
    assert!(known.is_empty());
    assert_eq!(known.delete(name("a"), version(4)), None);
}

#[test]
fn the_memory_of_deletions_is_bounded() {
    let mut known = Known::new(Kind::Service);
    for number in 0..2 * DELETIONS as u64 {
        drop(known.apply(item(&format!("s{number}"), number + 1)));
        drop(known.delete(name(&format!("s{number}")), version(number + 2)));
    }
    assert_eq!(known.entries.len(), DELETIONS);
}
