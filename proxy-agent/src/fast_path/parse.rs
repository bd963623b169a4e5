// SPDX-License-Identifier: Apache-2.0
//! What chains, rules and elements of maps say of the way of packets. The numbers are those of
//! `linux/netfilter/nf_tables.h` and `linux/netfilter.h`.

use netlink_packet_core::{DecodeError, parse_i32_be, parse_u32_be};

use super::found::{Action, Chain};
use crate::netlink::{Message, attributes, find, text};

/// `NFTA_LIST_ELEM`.
const ITEM: u16 = 1;

/// What a rule, or an element of a map, may do with a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// It is kept from its way, or translated.
    Does(Action),
    /// It goes to another chain of the table.
    Leads(String),
    /// What a map of the table says for it.
    Asks(String),
}

/// Where a chain is hooked into the way of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// Whether forwarded packets come there.
    pub(super) forwards: bool,
    /// Whether it drops what no rule decides upon.
    pub(super) drops: bool,
}

/// Families of tables that forwarded packets meet, by `NFPROTO_*`.
const FAMILIES: [(u8, &str); 5] = [(1, "inet"), (2, "ip"), (5, NETDEV), (7, "bridge"), (10, "ip6")];

/// Its hooks are numbered otherwise.
const NETDEV: &str = "netdev";

fn family(message: &Message) -> Option<&'static str> {
    let mut families = FAMILIES.into_iter();
    families.find_map(|(number, name)| (number == message.family).then_some(name))
}

/// The number of a family by its name.
pub(super) fn number(family: &str) -> u8 {
    let mut families = FAMILIES.into_iter();
    // All families that are named here are in the list.
    families.find_map(|(number, name)| (name == family).then_some(number)).unwrap_or_default()
}

/// A chain, and where it is hooked in, if it is. Nothing for chains of other families.
pub(super) fn chain(message: &Message) -> Result<Option<(Chain, Option<Base>)>, DecodeError> {
    let Some(family) = family(message) else { return Ok(None) };
    let all = &message.attributes;
    let chain = Chain { family, table: text(all, 1)?, name: text(all, 3)? };
    let Some(hook) = find(all, 4)? else { return Ok(Some((chain, None))) };
    let number = find(hook, 1)?.map(parse_u32_be).transpose()?;
    let number = number.ok_or_else(|| DecodeError::from("a base chain without a hook"))?;
    let policy = find(all, 5)?.map(parse_i32_be).transpose()?;
    // Prerouting, forward, postrouting and, in inet tables, ingress; of devices, both.
    let forwards = family == NETDEV || [0, 2, 4, 5].contains(&number);
    let drops = policy.and_then(verdict) == Some(Action::Drop);
    Ok(Some((chain, Some(Base { forwards, drops }))))
}

/// The chain of a rule, and what the rule may do. Nothing for rules of other families.
pub(super) fn rule(message: &Message) -> Result<Option<(Chain, Vec<Effect>)>, DecodeError> {
    let Some(family) = family(message) else { return Ok(None) };
    let all = &message.attributes;
    let chain = Chain { family, table: text(all, 1)?, name: text(all, 2)? };
    let mut effects = Vec::new();
    for expression in items(find(all, 4)?) {
        effects.extend(expression_effect(expression?)?);
    }
    Ok(Some((chain, effects)))
}

/// What the elements of a map may do.
pub(super) fn elements(message: &Message) -> Result<Vec<Effect>, DecodeError> {
    let mut effects = Vec::new();
    for element in items(find(&message.attributes, 3)?) {
        effects.extend(data_effect(find(element?, 2)?)?);
    }
    Ok(effects)
}

/// The items of a list.
fn items(list: Option<&[u8]>) -> impl Iterator<Item = Result<&[u8], DecodeError>> {
    let all = attributes(list.unwrap_or_default());
    all.filter_map(|item| match item {
        Ok((kind, value)) => (kind == ITEM).then_some(Ok(value)),
        Err(error) => Some(Err(error)),
    })
}

fn expression_effect(expression: &[u8]) -> Result<Option<Effect>, DecodeError> {
    let name = text(expression, 1)?;
    let data = find(expression, 2)?.unwrap_or_default();
    Ok(match name.as_str() {
        "immediate" => data_effect(find(data, 2)?)?,
        // Where it writes says what it looks up: register 0 takes verdicts.
        "lookup" => match find(data, 3)?.map(parse_u32_be).transpose()? {
            Some(0) => Some(Effect::Asks(text(data, 1)?)),
            _ => None,
        },
        "reject" => Some(Effect::Does(Action::Reject)),
        "queue" => Some(Effect::Does(Action::Queue)),
        "masq" => Some(Effect::Does(Action::Masquerade)),
        "nat" => match find(data, 1)?.map(parse_u32_be).transpose()? {
            Some(1) => Some(Effect::Does(Action::Dnat)),
            _ => Some(Effect::Does(Action::Snat)),
        },
        "redir" => Some(Effect::Does(Action::Redirect)),
        "tproxy" => Some(Effect::Does(Action::Tproxy)),
        "synproxy" => Some(Effect::Does(Action::Synproxy)),
        "fwd" => Some(Effect::Does(Action::Fwd)),
        "payload" => payload_effect(data)?,
        "target" => target(&text(data, 1)?).map(Effect::Does),
        _ => None,
    })
}

/// What a target of iptables does. Those that mark, count, log or copy keep no packet from its way.
fn target(name: &str) -> Option<Action> {
    Some(match name {
        "DROP" => Action::Drop,
        "REJECT" => Action::Reject,
        "NFQUEUE" => Action::Queue,
        "MASQUERADE" => Action::Masquerade,
        "SNAT" => Action::Snat,
        "DNAT" => Action::Dnat,
        "REDIRECT" => Action::Redirect,
        // IPv6 has them without connection tracking, too (RFC 6296).
        "NETMAP" | "SNPT" | "DNPT" => Action::Netmap,
        "TPROXY" => Action::Tproxy,
        "SYNPROXY" => Action::Synproxy,
        _ => return None,
    })
}

/// What an expression that reads or writes a packet does: translating is writing addresses or ports.
fn payload_effect(data: &[u8]) -> Result<Option<Effect>, DecodeError> {
    let number = |kind| find(data, kind)?.map(parse_u32_be).transpose();
    // From which register it writes; without one, it reads.
    let (Some(_), Some(base), Some(offset), Some(length)) =
        (number(5)?, number(2)?, number(3)?, number(4)?)
    else {
        return Ok(None);
    };
    let translates = match base {
        // `NFT_PAYLOAD_NETWORK_HEADER`. IPv4 has its addresses from byte 12 on, IPv6 16 bytes from
        // byte 8 on; what of either comes before is no address.
        1 => offset.saturating_add(length) > 12,
        // `NFT_PAYLOAD_TRANSPORT_HEADER`, which begins with the ports.
        2 => offset < 4,
        _ => false,
    };
    Ok(translates.then_some(Effect::Does(Action::Set)))
}

/// What `NFTA_DATA_*` say, if they are a verdict.
fn data_effect(data: Option<&[u8]>) -> Result<Option<Effect>, DecodeError> {
    let Some(found) = find(data.unwrap_or_default(), 2)? else { return Ok(None) };
    let code = find(found, 1)?.map(parse_i32_be).transpose()?;
    Ok(match code.ok_or_else(|| DecodeError::from("a verdict without a code"))? {
        // `NFT_JUMP` and `NFT_GOTO`.
        -3 | -4 => Some(Effect::Leads(text(found, 2)?)),
        code => verdict(code).map(Effect::Does),
    })
}

/// What a verdict means for a packet, if that is its end. Those below zero are no ends; above the
/// lowest byte there is more about it.
fn verdict(code: i32) -> Option<Action> {
    match code & 0xff {
        _ if code < 0 => None,
        0 => Some(Action::Drop),
        3 => Some(Action::Queue),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
