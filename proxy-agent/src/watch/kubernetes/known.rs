// SPDX-License-Identifier: Apache-2.0
//! What has been delivered of a kind, and what a list or an event changes about it.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    hash::BuildHasher as _,
};

use foldhash::quality::RandomState;

use super::version::Version;
use crate::{
    model::{Kind, Object, ObjectKey, ObjectName},
    watch::Event,
};

/// How many deletions are remembered between two lists. What comes late comes within seconds.
const DELETIONS: usize = 4096;

/// An object as a list or an event has it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) name: ObjectName,
    pub(super) version: Option<Version>,
    pub(super) content: Content,
}

/// What is in an object.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// An object for a proxy.
    Served(Object),
    /// One that is not for a proxy.
    NotServed,
    /// It cannot be used; what was known of the object stays in force.
    Unusable,
}

/// What has been delivered of a kind.
///
/// Versions decide what is news: an event that is older than what was delivered of its object, or
/// than its deletion, comes late or twice, and changes nothing. A list is compared with all that
/// was delivered, and only the differences are told.
#[derive(Debug)]
pub(super) struct Known {
    kind: Kind,
    entries: HashMap<ObjectName, Delivered, RandomState>,
    deletions: VecDeque<ObjectName>,
    /// The version of the last list: events that are not newer come late.
    floor: Option<Version>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Delivered {
    version: Option<Version>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Delivered, with this hash.
    Served(u64),
    /// There, but nothing that was delivered.
    NotServed,
    Deleted,
}

impl Known {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            entries: HashMap::default(),
            deletions: VecDeque::new(),
            floor: None,
            hasher: RandomState::default(),
        }
    }

    /// Whether nothing has been delivered that is still in force.
    pub(super) fn is_empty(&self) -> bool {
        !self.entries.values().any(|entry| matches!(entry.state, State::Served(_)))
    }

    /// Takes an object of an event, and says what is new.
    pub(super) fn apply(&mut self, item: Item) -> Option<Event> {
        let late = |known: &Option<Version>| is_late(item.version.as_ref(), known.as_ref());
        if late(&self.floor) || self.entries.get(&item.name).is_some_and(|it| late(&it.version)) {
            return None;
        }
        self.listed(item)
    }

    /// Takes an event that says that an object is gone, or has left the selection.
    pub(super) fn delete(&mut self, name: ObjectName, version: Option<Version>) -> Option<Event> {
        let before = self.entries.get(&name);
        if let (Some(before), Some(version)) = (before, &version)
            && before.version.as_ref().is_some_and(|known| version.is_older_than(known))
        {
            return None;
        }
        let served = before.is_some_and(|before| matches!(before.state, State::Served(_)));
        if before.is_none_or(|before| before.state != State::Deleted) {
            self.deletions.push_back(name.clone());
        }
        let deleted = Delivered { version, state: State::Deleted };
        drop(self.entries.insert(name.clone(), deleted));
        self.forget_deletions(DELETIONS);
        served.then(|| self.deleted(name))
    }

    /// Takes the names in a complete list, which is the truth, and returns the deletions that it
    /// means. Its items are [listed](Self::listed) one by one before these are told, so that a
    /// client which moves from one Service to the next finds it.
    pub(super) fn begin_list(&mut self, items: &[Item], version: Option<Version>) -> Vec<Event> {
        self.forget_deletions(0);
        self.floor = version;
        let listed: HashSet<_> = items.iter().map(|item| &item.name).collect();
        let gone = self.entries.extract_if(|name, _| !listed.contains(name));
        let served = gone.filter(|(_, gone)| matches!(gone.state, State::Served(_)));
        let kind = self.kind;
        served.map(|(name, _)| Event::Delete(ObjectKey { kind, name })).collect()
    }

    /// Takes an item of a list, and says what is new.
    pub(super) fn listed(&mut self, item: Item) -> Option<Event> {
        let hash = match &item.content {
            Content::Served(object) => Some(self.hasher.hash_one(object)),
            Content::NotServed | Content::Unusable => None,
        };
        let version = item.version;
        let entry = match self.entries.entry(item.name.clone()) {
            Entry::Occupied(entry) => {
                let entry = entry.into_mut();
                entry.version = version.or_else(|| entry.version.take());
                entry
            }
            Entry::Vacant(entry) => entry.insert(Delivered { version, state: State::Deleted }),
        };
        let before = entry.state;
        match (item.content, hash) {
            (Content::Served(object), Some(hash)) => {
                entry.state = State::Served(hash);
                (before != entry.state).then_some(Event::Apply(object))
            }
            (Content::Unusable, _) => {
                if before == State::Deleted {
                    entry.state = State::NotServed;
                }
                None
            }
            _ => {
                entry.state = State::NotServed;
                matches!(before, State::Served(_)).then(|| self.deleted(item.name))
            }
        }
    }

    fn deleted(&self, name: ObjectName) -> Event {
        Event::Delete(ObjectKey { kind: self.kind, name })
    }

    /// Forgets all but the last deletions.
    fn forget_deletions(&mut self, keep: usize) {
        while self.deletions.len() > keep {
            if let Some(name) = self.deletions.pop_front()
                && self.entries.get(&name).is_some_and(|entry| entry.state == State::Deleted)
            {
                drop(self.entries.remove(&name));
            }
        }
    }
}

fn is_late(version: Option<&Version>, known: Option<&Version>) -> bool {
    match (version, known) {
        (Some(version), Some(known)) => version.brings_nothing_after(known),
        _ => false,
    }
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;
