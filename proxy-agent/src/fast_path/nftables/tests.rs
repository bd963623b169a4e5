// SPDX-License-Identifier: Apache-2.0
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};

use super::*;
use crate::netlink::text;

/// Of the rules that [`EXPECTED`] is about. The chain `unused` is led to by none, `watched` from
/// the hook input only, and there is a table of ARP, and one of frames that accepts all.
const RECORDED: &str = include_str!("../recorded/nftables.hex");

const EXPECTED: [&str; 7] = [
    "chain inet firewall dropping: drop",
    "chain inet firewall early: drop",
    "chain inet firewall refused: reject",
    "chain ip filter FORWARD: reject",
    "chain ip6 filter FORWARD: queue",
    "chain ip6 strict late: policy drop",
    "chain netdev edge in: drop",
];

fn bytes(line: &str) -> Vec<u8> {
    let digits = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    line.as_bytes().as_chunks::<2>().0.iter().map(digits).collect()
}

/// What a message is about, by its type: a new chain, rule, or elements of a map.
fn add(rules: &mut Ruleset, line: &str) -> Result<(), AskError> {
    let message = NetlinkMessage::<Message>::deserialize(&bytes(line))?;
    let (header, payload) = message.into_parts();
    let NetlinkPayload::InnerMessage(message) = payload else { panic!("{payload:?}") };
    match header.message_type & 0xff {
        3 => rules.add_chain(&message),
        6 => rules.add_rule(&message),
        12 => {
            let [table, name] = [1, 2].map(|kind| text(&message.attributes, kind).unwrap());
            let map = Chain { family: "inet", table, name };
            let asked = rules.unread_maps().contains(&map) || rules.maps.contains_key(&map);
            assert!(asked, "nobody asks for {map}");
            rules.add_elements(&map, &message)
        }
        other => panic!("message type {other}"),
    }
}

fn lines() -> impl Iterator<Item = &'static str> {
    RECORDED.lines().filter(|line| !line.starts_with('#'))
}

#[test]
#[cfg(target_endian = "little")]
fn recorded_rules_are_followed() {
    let mut rules = Ruleset::default();
    for line in lines() {
        add(&mut rules, line).unwrap();
    }
    assert!(rules.unread_maps().is_empty(), "all maps are known");
    let found: Vec<_> = rules.found().iter().map(ToString::to_string).collect();
    assert_eq!(found, EXPECTED);
}

#[test]
#[cfg(target_endian = "little")]
fn what_is_not_whole_is_an_error_and_never_a_crash() {
    let mut refused = 0;
    for line in lines() {
        let whole = bytes(line);
        // Behind the two headers; attributes are cut in the middle, too.
        for length in (20..whole.len()).step_by(3) {
            let mut message = request(Objects::Rules, 1, &[]);
            message.attributes = whole[20..length].to_vec();
            let mut rules = Ruleset::default();
            refused += usize::from(rules.add_chain(&message).is_err());
            refused += usize::from(rules.add_rule(&message).is_err());
        }
    }
    assert!(refused > 100, "{refused}");
}

fn at(name: &str) -> Chain {
    Chain { family: "ip", table: "t".to_owned(), name: name.to_owned() }
}

#[test]
fn circles_end() {
    let mut rules = Ruleset::default();
    let _ = rules.bases.insert(at("a"), Base { forwards: true, drops: false });
    let leads = |to: &str| BTreeSet::from([Effect::Leads(to.to_owned())]);
    let _ = rules.effects.insert(at("a"), leads("b"));
    let _ = rules.effects.insert(at("b"), leads("a"));
    assert_eq!(rules.found(), []);
    let _ = rules.effects.get_mut(&at("b")).unwrap().insert(Effect::Does(Action::Drop));
    assert_eq!(rules.found(), [Found::Chain(at("b"), Action::Drop)]);
}

#[test]
fn maps_that_maps_lead_to_are_asked_for() {
    let mut rules = Ruleset::default();
    let _ = rules.bases.insert(at("a"), Base { forwards: true, drops: false });
    let asks = |map: &str| BTreeSet::from([Effect::Asks(map.to_owned())]);
    let _ = rules.effects.insert(at("a"), asks("m"));
    let _ = rules.effects.insert(at("b"), asks("n"));
    assert_eq!(rules.unread_maps(), BTreeSet::from([at("m")]));
    let _ = rules.maps.insert(at("m"), BTreeSet::from([Effect::Leads("b".to_owned())]));
    assert_eq!(rules.unread_maps(), BTreeSet::from([at("n")]));
    let _ = rules.maps.insert(at("n"), BTreeSet::from([Effect::Does(Action::Drop)]));
    assert_eq!(rules.found(), [Found::Chain(at("b"), Action::Drop)]);
}
