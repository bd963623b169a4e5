// SPDX-License-Identifier: Apache-2.0
//! Events and lists out of what the API sends.
//!
//! Objects are decoded one by one: one that cannot be used is reported, and does not stop the
//! others.

use kube::core::Status;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tracing::warn;

use super::{
    failure::Failure,
    known::{Content, Item},
    version::Version,
};
use crate::{
    model::ObjectName,
    watch::{
        Event,
        convert::{Convert, Converted, Rejected, claimed_key, decode},
    },
};

/// Marks the bookmark at the end of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A line of a stream.
#[derive(Debug)]
pub(super) enum Line {
    /// There is an object, new or changed.
    Apply(Item),
    /// An object is gone or has left the selection.
    Delete(ObjectName, Option<Version>),
    /// All is told up to a version; whether the streaming list is complete.
    Bookmark(Option<Version>, bool),
    /// An object that does not say which it is.
    Nameless,
}

#[derive(Deserialize)]
struct Written<'a> {
    #[serde(rename = "type")]
    type_: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// A line as nearly all are: what is in it is read at once, and only once.
#[derive(Deserialize)]
struct Usual<'a, K> {
    #[serde(rename = "type")]
    type_: &'a str,
    object: K,
}

#[derive(Deserialize)]
struct Mark {
    metadata: MarkMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MarkMetadata {
    resource_version: Option<String>,
    annotations: Option<serde_json::Map<String, Value>>,
}

/// Reads a line of a stream.
///
/// # Errors
///
/// [`Failure::Garbled`] if it is not an event, or what an event of the type `ERROR` says.
pub(super) fn line<K: Convert>(text: &[u8]) -> Result<Line, Failure> {
    let text = str::from_utf8(text).map_err(|error| Failure::Garbled(error.to_string()))?;
    if let Ok(Usual { type_: "ADDED" | "MODIFIED", object }) = serde_json::from_str(text)
        && let Ok(converted) = K::convert(&object)
    {
        return Ok(told(&object, converted).map_or(Line::Nameless, Line::Apply));
    }
    // Something else is told, or something is wrong: what it is takes a closer look.
    let garbled = |error: serde_json::Error| Failure::Garbled(error.to_string());
    let written: Written<'_> = serde_json::from_str(text).map_err(garbled)?;
    let object = written.object.get();
    match written.type_ {
        "ADDED" | "MODIFIED" => Ok(item::<K>(object).map_or(Line::Nameless, Line::Apply)),
        "DELETED" => Ok(name::<K>(object).map_or(Line::Nameless, |(name, version)| {
            // Which object it was is all that matters.
            Line::Delete(name, version)
        })),
        "BOOKMARK" => {
            let Mark { metadata } = serde_json::from_str(object).map_err(garbled)?;
            let annotations = metadata.annotations.as_ref();
            let end = annotations.and_then(|all| all.get(INITIAL_EVENTS_END));
            let version = Version::new(metadata.resource_version.as_deref());
            Ok(Line::Bookmark(version, end.is_some_and(|end| end == "true")))
        }
        "ERROR" => {
            let status: Status = serde_json::from_str(object).map_err(garbled)?;
            Err(Failure::from_status(status, None))
        }
        other => Err(Failure::Garbled(format!("an event of the type {other:?}"))),
    }
}

/// A page of a list, or a whole one.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) version: Option<Version>,
    /// Names the next page.
    pub(super) next: Option<String>,
    pub(super) items: Vec<Item>,
}

#[derive(Deserialize)]
struct WrittenPage<'a> {
    kind: &'a str,
    metadata: PageMetadata,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Reads a list.
///
/// # Errors
///
/// [`Failure::Garbled`] if it is not one.
pub(super) fn page<K: Convert>(text: &[u8]) -> Result<Page, Failure> {
    let garbled = |error: serde_json::Error| Failure::Garbled(error.to_string());
    let written: WrittenPage<'_> = serde_json::from_slice(text).map_err(garbled)?;
    if written.kind.strip_suffix("List") != Some(K::KIND.name()) {
        return Err(Failure::Garbled(format!("{:?} where a list was asked for", written.kind)));
    }
    let items = written.items.unwrap_or_default();
    Ok(Page {
        version: Version::new(written.metadata.resource_version.as_deref()),
        next: written.metadata.next.filter(|next| !next.is_empty()),
        items: items.into_iter().filter_map(|object| item::<K>(object.get())).collect(),
    })
}

/// An object. Nothing if it does not even say which it is.
fn item<K: Convert>(text: &str) -> Option<Item> {
    let kind = K::KIND.name();
    // Where in an object something is wrong is only looked for if something is.
    let decoded = serde_json::from_str::<K>(text)
        .or_else(|_| decode::<K, _>(&mut serde_json::Deserializer::from_str(text), kind));
    match decoded.and_then(|object| Ok((object.convert()?, object))) {
        Ok((converted, object)) => told(&object, converted),
        Err(rejected) => {
            let known = name::<K>(text);
            let object = match &known {
                Some((name, _)) => format!("{kind} {name}"),
                None => rejected.object,
            };
            report(&Rejected { object, ..rejected });
            known.map(|(name, version)| Item { name, version, content: Content::Unusable })
        }
    }
}

/// What an object tells.
fn told<K: Convert>(object: &K, Converted { event, rejected }: Converted) -> Option<Item> {
    rejected.iter().for_each(report);
    let (name, content) = match event {
        Event::Apply(object) => (object.key().name, Content::Served(object)),
        Event::Delete(key) => (key.name, Content::NotServed),
        Event::Synced(_) => return None,
    };
    let version = Version::new(object.metadata().resource_version.as_deref());
    Some(Item { name, version, content })
}

/// What an object that may be unreadable says it is.
fn name<K: Convert>(text: &str) -> Option<(ObjectName, Option<Version>)> {
    let value: Value = serde_json::from_str(text).ok()?;
    let version = value.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    claimed_key(&value, K::KIND).map(|key| (key.name, Version::new(version)))
}

fn report(Rejected { object, field, reason }: &Rejected) {
    warn!(object, field, %reason, "part of an object of the API cannot be used");
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
