// SPDX-License-Identifier: Apache-2.0
//! A streaming list as it grows.

use std::collections::{HashMap, hash_map::Entry};

use foldhash::fast::RandomState;

use super::{
    decode::Line,
    failure::Failure,
    known::{Content, Item},
    version::Version,
};
use crate::model::{ObjectName, Shared};

/// The objects of a streaming list, which are compared with what is known once it is complete.
/// Events that are not initial may come before its end, late ones and repeated ones too.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    objects: HashMap<ObjectName, Seen, RandomState>,
    /// As long as each object has texts of its own, these stand between what stays, and leave holes there when
    /// they go.
    shared: Shared,
}

#[derive(Debug)]
enum Seen {
    There(Box<Item>),
    Gone(Option<Version>),
}

impl Seen {
    fn version(&self) -> Option<&Version> {
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
            Line::Apply(mut item) => {
                self.shared.share(&mut item.name.namespace);
                if let Content::Served(object) = &mut item.content {
                    object.share(&mut self.shared);
                }
                self.put(item.name.clone(), Seen::There(Box::new(item)));
            }
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
            Seen::There(item) => Some(*item),
            Seen::Gone(_) => None,
        };
        self.objects.into_values().filter_map(there).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u32) -> Option<Version> {
        Version::new(Some(&number.to_string()))
    }

    fn item(name: &str, number: u32) -> Line {
        let name = ObjectName::new("ns", name);
        Line::Apply(Item { name, version: version(number), content: Content::NotServed })
    }

    #[test]
    fn the_newest_of_each_object_is_listed() {
        let mut shadow = Shadow::default();
        let gone = |name, number| Line::Delete(ObjectName::new("ns", name), version(number));
        for line in [
            item("a", 1),
            item("b", 2),
            item("c", 3),
            Line::Bookmark(version(3), false),
            item("a", 5),
            item("a", 1),
            gone("b", 6),
            item("b", 2),
            gone("c", 1),
        ] {
            assert_eq!(shadow.take(line).unwrap(), None);
        }
        assert!(shadow.take(Line::Bookmark(None, true)).is_err());
        assert_eq!(shadow.take(Line::Bookmark(version(7), true)).unwrap(), version(7));
        let items = shadow.into_items();
        let mut listed: Vec<_> =
            items.iter().map(|item| (&*item.name.name, item.version.clone())).collect();
        listed.sort_by_key(|(name, _)| *name);
        assert_eq!(listed, [("a", version(5)), ("c", version(3))]);
    }
}
