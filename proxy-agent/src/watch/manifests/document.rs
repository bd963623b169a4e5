// SPDX-License-Identifier: Apache-2.0
//! The objects in a file's text.

use std::collections::{BTreeMap, btree_map::Entry};

use serde_json::Value;
use tracing::debug;

use super::Cause;
use crate::{
    model::{Kind, Object, ObjectKey},
    watch::{
        Event,
        api::{EndpointSlice, Node, Service, ServiceCidr},
        convert::{Convert, Converted, Reason, Rejected, claimed_key, decode},
    },
};

/// What a file's text says.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Its objects. Without a value: one that cannot be used.
    pub(super) objects: BTreeMap<ObjectKey, Option<Object>>,
    /// What is wrong with it.
    pub(super) causes: Vec<Cause>,
}

/// Reads a file's text, which is JSON (one value after the other) or YAML (one document after
/// the other).
pub(super) fn parse(text: &str, name: &str, is_json: bool) -> Result<Contents, Cause> {
    if text.trim().is_empty() {
        return Err(Cause::Empty);
    }
    let values = if is_json { json(text) } else { yaml(text) }?;
    let mut contents = Contents::default();
    for (at, value) in values.into_iter().enumerate() {
        contents.take(value, None, &format!("document {}", at + 1), name);
    }
    Ok(contents)
}

fn json(text: &str) -> Result<Vec<Value>, Cause> {
    let values = serde_json::Deserializer::from_str(text).into_iter();
    values.collect::<Result<_, _>>().map_err(|error| Cause::Syntax(error.to_string()))
}

fn yaml(text: &str) -> Result<Vec<Value>, Cause> {
    // Manifests are the operator's own and may be as large as a cluster; what protects from
    // bombs in strangers' files stays for depth and aliases.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_documents: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
        },
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| Cause::Syntax(error.to_string()))
}

/// How a kind is read.
struct Reader {
    api_version: &'static str,
    kind: Kind,
    /// Converts an object that is called so until it is known better.
    read: fn(Value, &str) -> Result<Converted, Rejected>,
}

const READERS: [Reader; 4] = [
    Reader::of::<Service>(),
    Reader::of::<EndpointSlice>(),
    Reader::of::<Node>(),
    Reader::of::<ServiceCidr>(),
];

impl Reader {
    const fn of<K: Convert>() -> Self {
        Self {
            api_version: K::API_VERSION,
            kind: K::KIND,
            read: |value, called| decode::<K, _>(value, called)?.convert(),
        }
    }

    /// The group of an API version: what stands before the slash.
    fn group(api_version: &str) -> &str {
        api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

impl Contents {
    /// Takes a value: an object, a list of objects, or something else. The items of a typed list
    /// do not say what they are; `inherited` does.
    fn take(&mut self, value: Value, inherited: Option<&Reader>, place: &str, file: &str) {
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let group = Reader::group(api_version);
        let of_group = |reader: &&Reader| Reader::group(reader.api_version) == group;
        let reader = match inherited {
            Some(reader) if kind.is_empty() => Some(reader),
            _ => READERS.iter().filter(of_group).find(|reader| reader.kind.name() == kind),
        };
        if let Some(reader) = reader {
            return self.read(value, reader, place, file);
        }
        let item_kind = kind.strip_suffix("List");
        let of_items = item_kind.and_then(|kind| {
            let mut readers = READERS.iter().filter(of_group);
            readers.find(|reader| reader.kind.name() == kind)
        });
        if of_items.is_some() || (kind == "List" && group.is_empty()) {
            let mut value = value;
            let items = value.get_mut("items").map(Value::take);
            let Some(Value::Array(items)) = items else {
                return;
            };
            for (at, item) in items.into_iter().enumerate() {
                self.take(item, of_items, &format!("{place}, items[{at}]"), file);
            }
        } else if value.is_null() {
            // A document of comments.
        } else if kind.is_empty() {
            self.causes.push(Cause::Object(Rejected {
                object: place.to_owned(),
                field: "kind".to_owned(),
                reason: Reason::Missing,
            }));
        } else {
            debug!(file, kind, api_version, "passed over: not a kind that is used here");
        }
    }

    fn read(&mut self, value: Value, reader: &Reader, place: &str, file: &str) {
        let claimed = claimed_key(&value, reader.kind);
        let called = claimed.as_ref().map(ToString::to_string);
        let called = called.as_deref().unwrap_or(place);
        let version = value.get("apiVersion").and_then(Value::as_str);
        let converted = match version.filter(|version| *version != reader.api_version) {
            None => (reader.read)(value, called),
            Some(version) => Err(Rejected {
                object: called.to_owned(),
                field: "apiVersion".to_owned(),
                reason: Reason::Not { value: version.to_owned(), expected: reader.api_version },
            }),
        };
        let (key, object) = match converted {
            Ok(Converted { event, rejected }) => {
                self.causes.extend(rejected.into_iter().map(Cause::Object));
                match event {
                    Event::Apply(object) => (Some(object.key()), Some(object)),
                    Event::Delete(_) | Event::Synced(_) => return,
                }
            }
            Err(rejected) => {
                self.causes.push(Cause::Object(rejected));
                (claimed, None)
            }
        };
        let Some(key) = key else { return };
        match self.objects.entry(key) {
            Entry::Vacant(place) => {
                let _ = place.insert(object);
            }
            Entry::Occupied(place) => self.causes.push(Cause::Duplicate {
                object: place.key().clone(),
                winner: format!("an earlier place in {file}"),
            }),
        }
    }
}
