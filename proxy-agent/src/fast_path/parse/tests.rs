// SPDX-License-Identifier: Apache-2.0
use netlink_packet_core::{DefaultNla, Emitable as _};

use super::{
    super::request::{Objects, request},
    *,
};

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
    let mut message = request(Objects::Rules, family, &[]);
    message.attributes = attributes;
    message
}

#[test]
fn verdicts_say_where_packets_go() {
    let of = |code, chain: &[_]| data_effect(Some(&judged(code, chain))).unwrap();
    let does = |action| Some(Effect::Does(action));
    assert_eq!(of(0, &[]), does(Action::Drop));
    // What the sender is told, and the number of the queue.
    assert_eq!(of(0x0071_0000, &[]), does(Action::Drop));
    assert_eq!(of(0x0001_0003, &[]), does(Action::Queue));
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
fn expressions_and_targets_act_by_their_names() {
    let of = |name: &str, data: &[_]| expression_effect(&expression(name, data)).unwrap();
    let does = |action| Some(Effect::Does(action));
    assert_eq!(of("immediate", &[(2, judged(0, &[]))]), does(Action::Drop));
    assert_eq!(of("immediate", &[(2, list(&[(1, vec![0; 4])]))]), None, "a value");
    assert_eq!(of("reject", &[]), does(Action::Reject));
    assert_eq!(of("queue", &[]), does(Action::Queue));
    assert_eq!(of("counter", &[]), None);
    let kind = |number: u32| [(1, number.to_be_bytes().to_vec())];
    assert_eq!(of("nat", &kind(0)), does(Action::Snat));
    assert_eq!(of("nat", &kind(1)), does(Action::Dnat));
    for (name, action) in [
        ("masq", Action::Masquerade),
        ("redir", Action::Redirect),
        ("tproxy", Action::Tproxy),
        ("synproxy", Action::Synproxy),
        ("fwd", Action::Fwd),
    ] {
        assert_eq!(of(name, &[]), does(action), "{name}");
    }
    for (target, action) in [
        ("DROP", Action::Drop),
        ("REJECT", Action::Reject),
        ("NFQUEUE", Action::Queue),
        ("MASQUERADE", Action::Masquerade),
        ("SNAT", Action::Snat),
        ("DNAT", Action::Dnat),
        ("REDIRECT", Action::Redirect),
        ("NETMAP", Action::Netmap),
        ("DNPT", Action::Netmap),
        ("TPROXY", Action::Tproxy),
        ("SYNPROXY", Action::Synproxy),
    ] {
        assert_eq!(of("target", &[(1, named(target))]), does(action), "{target}");
    }
    for target in ["MARK", "CT", "LOG", "TCPMSS", "TEE"] {
        assert_eq!(of("target", &[(1, named(target))]), None, "{target}");
    }
    let asks =
        |register: &[(u16, Vec<u8>)]| of("lookup", &[&[(1, named("map"))], register].concat());
    assert_eq!(asks(&[(3, vec![0; 4])]), Some(Effect::Asks("map".to_owned())));
    assert_eq!(asks(&[(3, vec![0, 0, 0, 1])]), None, "a map of values");
    assert_eq!(asks(&[]), None, "a set");
}

#[test]
fn writing_addresses_and_ports_translates() {
    let of = |base: u32, offset: u32, length: u32, kind: u16| {
        let numbers = [(2, base), (3, offset), (4, length), (kind, 1)];
        let data = numbers.map(|(kind, number)| (kind, number.to_be_bytes().to_vec()));
        expression_effect(&expression("payload", &data)).unwrap()
    };
    let [reads, writes] = [1, 5];
    let [link, network, transport] = [0, 1, 2];
    for (base, offset, length) in
        [(network, 12, 4), (network, 16, 4), (network, 8, 16), (transport, 0, 2), (transport, 2, 2)]
    {
        let set = Some(Effect::Does(Action::Set));
        assert_eq!(of(base, offset, length, writes), set, "{base} {offset}");
        assert_eq!(of(base, offset, length, reads), None, "{base} {offset}");
    }
    // The class, the TTL with what follows, the hop limit; flags of TCP; the MAC address.
    for (base, offset, length) in
        [(network, 0, 2), (network, 8, 2), (network, 6, 2), (transport, 12, 2), (link, 0, 6)]
    {
        assert_eq!(of(base, offset, length, writes), None, "{base} {offset}");
    }
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
