// SPDX-License-Identifier: Apache-2.0
//! Which changes make a Service dirty, and which do not.

use super::*;

fn names(store: &mut Store) -> Vec<String> {
    store.take_dirty().iter().map(ToString::to_string).collect()
}

fn service(name: &str) -> Object {
    Object::Service(Service {
        name: ObjectName::new("ns", name),
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        ..Service::default()
    })
}

fn slice(name: &str, service: &str) -> Object {
    Object::EndpointSlice(EndpointSlice {
        name: ObjectName::new("ns", name),
        service: ObjectName::new("ns", service),
        endpoints: Vec::new(),
        ports: Vec::new(),
        unusable: BTreeMap::new(),
        trigger: crate::model::Trigger::default(),
    })
}

fn node(name: &str, zone: Option<&str>) -> Object {
    let (name, zone) = (name.into(), zone.map(Into::into));
    Object::Node(Node { name, zone, ..Node::default() })
}

#[test]
fn only_what_changed_is_dirty() {
    let mut store = Store::new("me");
    assert!(store.apply(service("a")));
    assert!(store.apply(service("b")));
    assert_eq!(names(&mut store), ["ns/a", "ns/b"]);
    assert!(!store.apply(service("a")));
    assert!(names(&mut store).is_empty(), "the same object again");
    assert!(store.apply(slice("b-1", "b")));
    assert_eq!(names(&mut store), ["ns/b"]);
    assert!(store.delete(&slice("b-1", "b").key()));
    assert_eq!(names(&mut store), ["ns/b"]);
    assert!(!store.delete(&slice("b-1", "b").key()));
    assert!(names(&mut store).is_empty(), "unknown objects do not matter");
}

#[test]
fn slices_wait_for_their_service_and_outlive_it() {
    let mut store = Store::new("me");
    let name = ObjectName::new("ns", "a");
    let _ = store.apply(slice("a-1", "a"));
    let _ = store.apply(service("a"));
    assert_eq!(store.slices(&name).count(), 1);
    let _ = store.delete(&service("a").key());
    assert_eq!((store.service(&name), store.slices(&name).count()), (None, 1));
    let _ = store.delete(&slice("a-1", "a").key());
    assert!(store.services.is_empty() && store.owners.is_empty());
}

#[test]
fn a_slice_may_move_to_another_service() {
    let mut store = Store::new("me");
    let _ = store.apply(slice("x", "a"));
    let _ = store.take_dirty();
    let _ = store.apply(slice("x", "b"));
    assert_eq!(names(&mut store), ["ns/a", "ns/b"]);
    assert_eq!(store.slices(&ObjectName::new("ns", "a")).count(), 0);
    assert_eq!(store.slices(&ObjectName::new("ns", "b")).count(), 1);
}

#[test]
fn of_nodes_only_the_own_zone_matters() {
    let mut store = Store::new("me");
    let _ = store.apply(service("a"));
    let _ = store.take_dirty();
    let _ = store.apply(node("other", Some("z")));
    let _ = store.apply(node("me", None));
    assert!(names(&mut store).is_empty());
    let _ = store.apply(node("me", Some("z")));
    assert_eq!(names(&mut store), ["ns/a"]);
    // One that is gone is about to come back.
    let _ = store.delete(&node("me", None).key());
    assert!(names(&mut store).is_empty());
    let _ = store.apply(node("me", Some("z")));
    assert!(names(&mut store).is_empty());
}

#[test]
fn another_address_of_the_own_node_matters_to_restricted_services_only() {
    let mut store = Store::new("me");
    let Object::Service(mut restricted) = service("a") else { panic!() };
    restricted.source_ranges = vec!["192.0.2.0/24".parse().unwrap()];
    let _ = store.apply(Object::Service(restricted));
    let _ = store.apply(service("b"));
    let _ = store.take_dirty();
    let at = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Object::Node(Node { name: "me".into(), addresses, ..Node::default() })
    };
    let _ = store.apply(at(&["192.0.2.1"]));
    assert_eq!(names(&mut store), ["ns/a"]);
    let _ = store.apply(at(&["192.0.2.1"]));
    assert!(names(&mut store).is_empty());
    let _ = store.apply(at(&["192.0.2.2", "192.0.2.1"]));
    assert_eq!(names(&mut store), ["ns/a"]);
}

#[test]
fn the_own_node_is_known_when_it_is_gone() {
    let mut store = Store::new("me");
    let _ = store.delete(&node("other", None).key());
    let _ = store.apply(node("me", Some("a")));
    let _ = store.delete(&node("other", None).key());
    assert!(!store.node_is_gone());
    let _ = store.delete(&node("me", None).key());
    assert!(store.node_is_gone() && store.node().is_some());
    let _ = store.apply(node("me", Some("a")));
    assert!(!store.node_is_gone());
}
