// SPDX-License-Identifier: Apache-2.0
//! A streaming list as it grows.

use std::collections::{HashMap, hash_map::Entry};

use super::{decode::Line, failure::Failure, known::Item, version::Version};
use crate::model::ObjectName;

/// The objects of a streaming list, which are compared with what is known once it is complete.
/// Events that are not initial may come before its end, late ones and repeated ones too.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    objects: HashMap<ObjectName, Seen>,
}

#[derive(Debug)]
enum Seen {
    There(Item),
    Gone(Option<Version>),
}

impl Seen {
    const fn version(&self) -> Option<&Version> {
        match self {
            Self::There(item) => item.version.as_ref(),
            Self::Gone(version) => version.as_ref(),
        }
    }
}

impl Shadow {
    /// Takes a line, and returns the list's version once it is complete.
    pub(super) fn take(&mut self, line: Line) -> Result<Option<Version>, Failure> {
        match line {
            Line::Apply(item) => self.put(item.name.clone(), Seen::There(item)),
            Line::Delete(name, version) => self.put(name, Seen::Gone(version)),
            Line::Bookmark(Some(version), true) => return Ok(Some(version)),
            Line::Bookmark(None, true) => {
                return Err(Failure::Garbled("a list without version".to_owned()));
            }
            Line::Bookmark(_, false) | Line::Nameless => {}
        }
        Ok(None)
    }

    fn put(&mut self, name: ObjectName, seen: Seen) {
        match self.objects.entry(name) {
            Entry::Vacant(entry) => drop(entry.insert(seen)),
            Entry::Occupied(mut entry) => {
                let late = match (seen.version(), entry.get().version()) {
                    (Some(new), Some(known)) => new.is_older_than(known),
                    _ => false,
                };
                if !late {
                    drop(entry.insert(seen));
                }
            }
        }
    }

    /// The objects that are there.
    pub(super) fn into_items(self) -> Vec<Item> {
        let there = |seen| match seen {
            Seen::There(item) => Some(item),
            Seen::Gone(_) => None,
        };
        self.objects.into_values().filter_map(there).collect()
    }
}
