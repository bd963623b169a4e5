// SPDX-License-Identifier: Apache-2.0
use netlink_packet_core::{DefaultNla, Emitable as _};

use super::{super::message::Objects, *};

/// Attributes with these values.
fn list(all: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let all: Vec<_> =
        all.iter().map(|(kind, value)| DefaultNla::new(*kind, value.clone())).collect();
    let all = all.as_slice();
    let mut bytes = vec![0; all.buffer_len()];
    all.emit(&mut bytes);
    bytes
}

fn named(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn expression(name: &str, data: &[(u16, Vec<u8>)]) -> Vec<u8> {
    list(&[(1, named(name)), (2, list(data))])
}

/// `NFTA_DATA_*` with a verdict.
fn judged(code: i32, chain: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let code = (1, code.to_be_bytes().to_vec());
    list(&[(2, list(&[&[code], chain].concat()))])
}

fn message(family: u8, attributes: Vec<u8>) -> Message {
    let mut message = Message::request(Objects::Rules, family, &[]);
    message.attributes = attributes;
    message
}

#[test]
fn verdicts_say_where_packets_go() {
    let of = |code, chain: &[_]| data_effect(Some(&judged(code, chain))).unwrap();
    let ends = |end| Some(Effect::Ends(end));
    assert_eq!(of(0, &[]), ends(End::Drop));
    // What the sender is told, and the number of the queue.
    assert_eq!(of(0x0071_0000, &[]), ends(End::Drop));
    assert_eq!(of(0x0001_0003, &[]), ends(End::Queue));
    for on in [1, -1, -2, -5] {
        assert_eq!(of(on, &[]), None, "{on}");
    }
    for leads in [-3, -4] {
        let chain = (2, named("other"));
        assert_eq!(of(leads, &[chain]), Some(Effect::Leads("other".to_owned())));
    }
    assert!(data_effect(Some(&judged(-3, &[]))).is_err(), "no chain");
    assert_eq!(data_effect(None).unwrap(), None);
}

#[test]
fn expressions_end_packets_by_their_names() {
    let of = |name: &str, data: &[_]| expression_effect(&expression(name, data)).unwrap();
    let ends = |end| Some(Effect::Ends(end));
    assert_eq!(of("immediate", &[(2, judged(0, &[]))]), ends(End::Drop));
    assert_eq!(of("immediate", &[(2, list(&[(1, vec![0; 4])]))]), None, "a value");
    assert_eq!(of("reject", &[]), ends(End::Reject));
    assert_eq!(of("queue", &[]), ends(End::Queue));
    assert_eq!(of("counter", &[]), None);
    for (target, end) in [("DROP", End::Drop), ("REJECT", End::Reject), ("NFQUEUE", End::Queue)] {
        assert_eq!(of("target", &[(1, named(target))]), ends(end));
    }
    assert_eq!(of("target", &[(1, named("MASQUERADE"))]), None);
    let asks =
        |register: &[(u16, Vec<u8>)]| of("lookup", &[&[(1, named("map"))], register].concat());
    assert_eq!(asks(&[(3, vec![0; 4])]), Some(Effect::Asks("map".to_owned())));
    assert_eq!(asks(&[(3, vec![0, 0, 0, 1])]), None, "a map of values");
    assert_eq!(asks(&[]), None, "a set");
}

#[test]
fn chains_of_other_families_are_not_looked_at() {
    let arp = message(3, Vec::new());
    assert_eq!(chain(&arp).unwrap(), None);
    assert_eq!(rule(&arp).unwrap(), None);
    assert!(rule(&message(2, Vec::new())).is_err(), "without names");
}

#[test]
fn hooks_say_whether_forwarded_packets_come() {
    let base = |family, hook: u32, policy: &[(u16, Vec<u8>)]| {
        let hook = list(&[(1, hook.to_be_bytes().to_vec())]);
        let named = [(1, named("t")), (3, named("c")), (4, hook)];
        let message = message(family, list(&[&named[..], policy].concat()));
        chain(&message).unwrap().unwrap().1.unwrap()
    };
    for (family, _) in FAMILIES.into_iter().filter(|(_, name)| *name != NETDEV) {
        let forwards = (0..5).filter(|&hook| base(family, hook, &[]).forwards);
        assert_eq!(forwards.collect::<Vec<_>>(), [0, 2, 4], "all but input and output");
    }
    assert!(base(number("inet"), 5, &[]).forwards);
    assert!((0..2).all(|hook| base(number(NETDEV), hook, &[]).forwards));
    assert!(base(2, 2, &[(5, vec![0; 4])]).drops);
    assert!(!base(2, 2, &[(5, vec![0, 0, 0, 1])]).drops);
    assert!(!base(2, 2, &[]).drops);
}
