// SPDX-License-Identifier: Apache-2.0

//! Events (`events.k8s.io/v1`), which are written and never watched here.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Request, header};
use serde_json::{Value, json};

use super::listener::Reply;
use super::query::status;
use super::replay::{json_answer, refusal};

const NAMESPACES: &str = "/apis/events.k8s.io/v1/namespaces/";

/// The Events of all namespaces.
#[derive(Debug, Default)]
pub(super) struct EventStore(Mutex<BTreeMap<(String, String), Value>>);

impl EventStore {
    /// Whether a path is that of Events.
    pub(super) fn is_at(path: &str) -> bool {
        place(path).is_some()
    }

    /// What is in it, by namespace and name.
    pub(super) fn all(&self) -> Vec<Value> {
        self.read().values().cloned().collect()
    }

    fn read(&self) -> MutexGuard<'_, BTreeMap<(String, String), Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes or patches an Event.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Reply {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let patch = parts.headers.get(header::CONTENT_TYPE);
        let is_merge = patch.is_some_and(|patch| patch == "application/merge-patch+json");
        let answer = match (&parts.method, place(parts.uri.path())) {
            (&Method::POST, Some((namespace, None))) => self.make(namespace, body),
            (&Method::PATCH, Some((namespace, Some(name)))) if is_merge => {
                self.patch(namespace, name, &body)
            }
            _ => Err(status(405, "MethodNotAllowed", "an Event is made or patched")),
        };
        Ok(match answer {
            Ok((code, event)) => json_answer(code, &event),
            Err(refused) => refusal(&refused),
        })
    }

    fn make(&self, namespace: &str, event: Value) -> Result<(u16, Value), Value> {
        check(namespace, &event)?;
        let name = event["metadata"]["name"].as_str().unwrap_or_default();
        let key = (namespace.to_owned(), name.to_owned());
        let mut events = self.read();
        if events.contains_key(&key) {
            return Err(status(409, "AlreadyExists", "it exists"));
        }
        drop(events.insert(key, event.clone()));
        Ok((201, event))
    }

    /// What has happened can be told no other way later; only that it has happened again.
    fn patch(&self, namespace: &str, name: &str, patch: &Value) -> Result<(u16, Value), Value> {
        let mut events = self.read();
        let event = events.get_mut(&(namespace.to_owned(), name.to_owned()));
        let event = event.ok_or_else(|| status(404, "NotFound", "not found"))?;
        let mut patched = event.clone();
        json_patch::merge(&mut patched, patch);
        check(namespace, &patched)?;
        if once(&patched) != once(event) || patched["series"]["count"].as_u64() < Some(2) {
            return Err(invalid("field is immutable, or the series is none"));
        }
        *event = patched.clone();
        Ok((200, patched))
    }
}

/// The namespace and, if it is of one Event, the name in a path.
fn place(path: &str) -> Option<(&str, Option<&str>)> {
    let (namespace, rest) = path.strip_prefix(NAMESPACES)?.split_once('/')?;
    match rest.split_once('/') {
        None if rest == "events" => Some((namespace, None)),
        Some(("events", name)) => Some((namespace, Some(name))),
        _ => None,
    }
}

/// An Event without how often it has happened.
fn once(event: &Value) -> Value {
    let mut event = event.clone();
    drop(event.as_object_mut().and_then(|event| event.remove("series")));
    event
}

fn invalid(message: &str) -> Value {
    status(422, "Invalid", message)
}

/// Whether the API takes an Event (`ValidateEventCreate` in Kubernetes).
fn check(namespace: &str, event: &Value) -> Result<(), Value> {
    if event["apiVersion"] != "events.k8s.io/v1" || event["kind"] != "Event" {
        return Err(status(400, "BadRequest", "it is no Event"));
    }
    let metadata = &event["metadata"];
    if metadata["namespace"] != namespace || event["regarding"]["namespace"] != namespace {
        return Err(invalid("does not match event.namespace"));
    }
    for (field, longest) in
        [("reportingInstance", 128), ("action", 128), ("reason", 128), ("reportingController", 63)]
    {
        let text = event[field].as_str().unwrap_or_default();
        if text.is_empty() || text.len() > longest {
            return Err(invalid(&format!(
                "{field}: must be there, and have at most {longest} bytes"
            )));
        }
    }
    if event["note"].as_str().is_some_and(|note| note.len() > 1024) {
        return Err(invalid("note: can have at most 1024 bytes"));
    }
    if ![json!("Normal"), json!("Warning")].contains(&event["type"]) {
        return Err(invalid("type: has invalid value"));
    }
    let time = event["eventTime"].as_str().unwrap_or_default();
    if metadata["name"].as_str().is_none_or(str::is_empty) || !time.ends_with('Z') {
        return Err(invalid("a name and a time are required"));
    }
    Ok(())
}
