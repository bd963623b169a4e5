// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::netlink::AskError;

#[test]
fn without_it_nothing_is_looked_at() {
    assert!(!decide(FastPath::Off).unwrap());
}

#[test]
fn a_refusal_is_one_sentence_that_names_the_first_rules() {
    let table = |table: &str| Found::LegacyTable { family: "ip", table: table.to_owned() };
    let chain = Found::Chain(
        Chain { family: "inet", table: "firewall".to_owned(), name: "forward".to_owned() },
        Action::Policy,
    );
    let found = [chain, table("filter"), table("mangle"), table("raw"), table("security")];
    let text = Error::Found(FoundList(found.to_vec())).to_string();
    let named = "(chain inet firewall forward: policy drop, table ip filter of legacy iptables: not \
                 looked into, table ip mangle of legacy iptables: not looked into, and 2 more)";
    assert!(text.contains(named), "{text}");
    assert!(text.contains("remove these rules") && text.contains("--fast-path force"), "{text}");
    assert!(text.contains("nothing is masqueraded"), "{text}");
    let few = FoundList(found[..1].to_vec()).to_string();
    assert_eq!(few, "chain inet firewall forward: policy drop");
}

#[test]
fn what_cannot_be_read_is_told_with_its_reason() {
    let error = Error::Unknown(ReadError::Asked(AskError::Refused(
        "the rules of nftables",
        rustix::io::Errno::PERM,
    )));
    let text = chain(&error);
    assert!(text.contains("--fast-path force") && text.contains("refused a request"), "{text}");
}
