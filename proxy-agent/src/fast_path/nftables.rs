// SPDX-License-Identifier: Apache-2.0
//! The rules of nftables, as far as they drop, reject or translate packets.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_core::parse_u32_be;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::{
    error::ReadError,
    found::{Action, Chain, Found},
    parse::{self, Base, Effect, number},
    request::{Objects, request},
};
use crate::netlink::{AskError, Channel, Dump, Message, find};

/// How often the rules are read anew when they changed meanwhile.
pub(super) const ATTEMPTS: usize = 10;

/// All chains of a network namespace.
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    bases: BTreeMap<Chain, Base>,
    effects: BTreeMap<Chain, BTreeSet<Effect>>,
    /// What the maps that rules ask may say; by chains that have the names of the maps.
    maps: BTreeMap<Chain, BTreeSet<Effect>>,
}

impl Ruleset {
    /// Reads it from the kernel, in the calling thread's network namespace. A kernel without
    /// nftables has no rules.
    pub(super) fn read() -> Result<Self, ReadError> {
        let kernel = Channel::open(NETLINK_NETFILTER, "the rules of nftables")?;
        let Some(mut kernel) = kernel else { return Ok(Self::default()) };
        for _ in 0..ATTEMPTS {
            let (answer, generation) = ask_generation(&mut kernel)?;
            if answer == Dump::Unknown {
                return Ok(Self::default());
            }
            let mut rules = Self::default();
            // Lists of different rules must not be taken together.
            if rules.fill(&mut kernel)? && ask_generation(&mut kernel)?.1 == generation {
                return Ok(rules);
            }
        }
        Err(ReadError::Restless)
    }

    /// Asks for all of it; whether that was not changed meanwhile.
    fn fill(&mut self, kernel: &mut Channel<Message>) -> Result<bool, ReadError> {
        let [chains, rules] =
            [Objects::Chains, Objects::Rules].map(|objects| request(objects, 0, &[]));
        let mut whole = kernel.dump(chains, |message| self.add_chain(&message))? == Dump::Whole
            && kernel.dump(rules, |message| self.add_rule(&message))? == Dump::Whole;
        // What a map says may lead to further ones.
        let mut maps = self.unread_maps();
        while whole && !maps.is_empty() {
            for map in maps {
                let names = [(1, map.table.as_str()), (2, map.name.as_str())];
                let elements = request(Objects::Elements, number(map.family), &names);
                let _ = self.maps.entry(map.clone()).or_default();
                let add = |message| self.add_elements(&map, &message);
                whole &= kernel.dump(elements, add)? == Dump::Whole;
            }
            maps = self.unread_maps();
        }
        Ok(whole)
    }

    pub(super) fn add_chain(&mut self, message: &Message) -> Result<(), AskError> {
        if let Some((chain, Some(base))) = parse::chain(message)? {
            let _ = self.bases.insert(chain, base);
        }
        Ok(())
    }

    pub(super) fn add_rule(&mut self, message: &Message) -> Result<(), AskError> {
        if let Some((chain, effects)) = parse::rule(message)? {
            self.effects.entry(chain).or_default().extend(effects);
        }
        Ok(())
    }

    pub(super) fn add_elements(&mut self, map: &Chain, message: &Message) -> Result<(), AskError> {
        self.maps.entry(map.clone()).or_default().extend(parse::elements(message)?);
        Ok(())
    }

    /// The maps that forwarded packets come to, and whose elements are not known yet.
    pub(super) fn unread_maps(&self) -> BTreeSet<Chain> {
        let mut unread = BTreeSet::new();
        for chain in self.reached() {
            for effect in self.effects.get(&chain).into_iter().flatten() {
                if let Effect::Asks(map) = effect {
                    let map = Chain { name: map.clone(), ..chain.clone() };
                    let _ = !self.maps.contains_key(&map) && unread.insert(map);
                }
            }
        }
        unread
    }

    /// What drops, rejects or translates forwarded packets: each chain once, and in order.
    pub(super) fn found(&self) -> Vec<Found> {
        let found = self.reached().into_iter().filter_map(|chain| {
            let policy = self.bases.get(&chain).is_some_and(|base| base.drops);
            let rules = self.effects_of(&chain).filter_map(|effect| match effect {
                Effect::Does(action) => Some(*action),
                _ => None,
            });
            let action = policy.then_some(Action::Policy).into_iter().chain(rules).min()?;
            Some(Found::Chain(chain, action))
        });
        found.collect()
    }

    /// The chains that forwarded packets come to.
    fn reached(&self) -> BTreeSet<Chain> {
        let hooked = self.bases.iter().filter(|(_, base)| base.forwards);
        let mut pending: Vec<_> = hooked.map(|(chain, _)| chain.clone()).collect();
        let mut reached = BTreeSet::new();
        while let Some(chain) = pending.pop() {
            if reached.contains(&chain) {
                continue;
            }
            pending.extend(self.effects_of(&chain).filter_map(|effect| match effect {
                Effect::Leads(name) => Some(Chain { name: name.clone(), ..chain.clone() }),
                _ => None,
            }));
            let _ = reached.insert(chain);
        }
        reached
    }

    /// What the rules of a chain may do, and the maps that they ask.
    fn effects_of<'a>(&'a self, chain: &'a Chain) -> impl Iterator<Item = &'a Effect> {
        let own = self.effects.get(chain).into_iter().flatten();
        own.flat_map(|effect| {
            let map = match effect {
                Effect::Asks(map) => self.maps.get(&Chain { name: map.clone(), ..chain.clone() }),
                _ => None,
            };
            std::iter::once(effect).chain(map.into_iter().flatten())
        })
    }
}

/// How often all rules have changed.
fn ask_generation(kernel: &mut Channel<Message>) -> Result<(Dump, u32), ReadError> {
    let mut generation = 0;
    let answer = kernel.ask(request(Objects::Generation, 0, &[]), |message| {
        let id = find(&message.attributes, 1)?.unwrap_or_default();
        generation = parse_u32_be(id)?;
        Ok(())
    })?;
    Ok((answer, generation))
}

#[cfg(test)]
mod tests;
