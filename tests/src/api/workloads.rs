// SPDX-License-Identifier: Apache-2.0

//! Namespaces, Pods and Jobs, which nobody watches here, the logs of Pods, and Events of `v1`. What a
//! cluster would make of them a test plays.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use serde_json::{Value, json};

use super::kind::name_of;
use super::listener::Reply;
use super::query::{Query, status};
use super::replay::{json_answer, refusal};
use super::rules::{self, Rules};
use super::store::Store;

const NAMESPACES: &str = "/api/v1/namespaces";
const JOBS: &str = "/apis/batch/v1/namespaces";

/// All of them, by the paths at which the API has them; a log is a string.
#[derive(Debug, Default)]
pub struct Workloads(Mutex<BTreeMap<String, Value>>);

/// What a path is of.
enum Place {
    /// All objects of a kind, in a namespace if they have one.
    All,
    /// One of them, or its log.
    One,
}

impl Workloads {
    /// Whether a path is one of theirs.
    pub(super) fn is_at(path: &str) -> bool {
        place(path).is_some()
    }

    /// All objects and logs, by path.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Value> {
        self.read().clone()
    }

    /// Changes them as a cluster does: while nobody else does.
    pub fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Value>)) {
        change(&mut self.read());
    }

    fn read(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes, reads or removes an object; with a Namespace goes all that is in it, here and in the
    /// `store`.
    pub(super) async fn answer(
        &self,
        store: &Store,
        rules: &dyn Rules,
        request: Request<Incoming>,
    ) -> Reply {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = parts.uri.path();
        let answer = match (&parts.method, place(path)) {
            (&Method::POST, Some(Place::All)) => self.make(path, body, rules),
            (&Method::GET, Some(Place::All)) => Ok((200, self.list(path, &Query::of(&parts.uri)))),
            (&Method::GET, Some(Place::One)) => self.one(path),
            (&Method::DELETE, Some(Place::One)) => self.remove(path, store, &body),
            _ => Err(status(405, "MethodNotAllowed", "the server does not allow this method")),
        };
        Ok(match answer {
            Ok((_, Value::String(log))) => {
                Response::new(Full::new(Bytes::from(log)).map_err(|never| match never {}).boxed())
            }
            Ok((code, value)) => json_answer(code, &value),
            Err(refused) => refusal(&refused),
        })
    }

    fn make(
        &self,
        path: &str,
        mut object: Value,
        rules: &dyn Rules,
    ) -> Result<(u16, Value), Value> {
        let mut all = self.read();
        if namespace(path).is_some_and(|name| !all.contains_key(&format!("{NAMESPACES}/{name}"))) {
            return Err(not_found());
        }
        rules::admit(rules, path, &mut object);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{path}/{name}");
        if all.contains_key(&path) {
            return Err(status(409, "AlreadyExists", "it exists"));
        }
        drop(all.insert(path, object.clone()));
        Ok((201, object))
    }

    /// Those of a kind; of labels and fields, only those with certain values are selected.
    fn list(&self, path: &str, query: &Query) -> Value {
        let terms = |name| {
            let terms = query.get(name).unwrap_or_default().split(',');
            terms.filter_map(|term| term.split_once('='))
        };
        let label = |name: &str| format!("/metadata/labels/{}", name.replace('/', "~1"));
        let field = |name: &str| format!("/{}", name.replace('.', "/"));
        let labels = terms("labelSelector").map(|(name, value)| (label(name), value));
        let fields = terms("fieldSelector").map(|(name, value)| (field(name), value));
        let wanted: Vec<_> = labels.chain(fields).collect();
        let has = |object: &Value, (pointer, value): &(String, &str)| {
            object.pointer(pointer).is_some_and(|it| it == *value)
        };
        let start = format!("{path}/");
        let is_of_path = |at: &str| at.strip_prefix(&start).is_some_and(|name| !name.contains('/'));
        let all = self.read();
        let items: Vec<_> = all
            .iter()
            .filter(|(at, object)| is_of_path(at) && wanted.iter().all(|term| has(object, term)))
            .map(|(_, object)| object)
            .collect();
        json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": items })
    }

    fn one(&self, path: &str) -> Result<(u16, Value), Value> {
        self.read().get(path).cloned().map(|object| (200, object)).ok_or_else(not_found)
    }

    /// Removes an object; its Pods go with a Job, unless they are to stay, as they do by default.
    fn remove(&self, path: &str, store: &Store, options: &Value) -> Result<(u16, Value), Value> {
        let mut all = self.read();
        let object = all.remove(path).ok_or_else(not_found)?;
        let name = name_of(&object).1;
        if object["kind"] == "Job" && options["propagationPolicy"] == "Background" {
            let is_owned =
                |object: &Value| object["metadata"]["ownerReferences"][0]["name"] == name;
            let owned: Vec<_> =
                all.iter().filter(|(_, it)| is_owned(it)).map(|(at, _)| at.clone()).collect();
            all.retain(|at, _| !owned.iter().any(|start| at.starts_with(start)));
        }
        let jobs = path.replacen(NAMESPACES, JOBS, 1);
        let inside = [format!("{path}/"), format!("{jobs}/")];
        all.retain(|at, _| !inside.iter().any(|start| at.starts_with(start)));
        if object["kind"] == "Namespace" {
            let namespace = name;
            let keys: Vec<_> = store.read().objects.keys().cloned().collect();
            for (kind, _, name) in keys.into_iter().filter(|(_, of, _)| *of == namespace) {
                let metadata = json!({ "namespace": namespace, "name": name });
                let object = json!({ "kind": kind.name(), "metadata": metadata });
                let _ = store.write(&object, true, false);
            }
        }
        Ok((200, object))
    }
}

fn not_found() -> Value {
    status(404, "NotFound", "not found")
}

/// What a path is of, if it is theirs.
fn place(path: &str) -> Option<Place> {
    let words = |start| {
        let rest: &str = path.strip_prefix(start)?;
        Some(rest.split('/').skip(1).collect::<Vec<_>>())
    };
    if let Some(words) = words(JOBS) {
        return match words[..] {
            [_, "jobs"] => Some(Place::All),
            [_, "jobs", _] => Some(Place::One),
            _ => None,
        };
    }
    match words(NAMESPACES)?[..] {
        [] | [_, "pods" | "events"] => Some(Place::All),
        [_] | [_, "pods", _] | [_, "pods", _, "log"] => Some(Place::One),
        _ => None,
    }
}

/// The namespace in a path.
fn namespace(path: &str) -> Option<&str> {
    [NAMESPACES, JOBS]
        .into_iter()
        .find_map(|start| path.strip_prefix(start)?.strip_prefix('/')?.split('/').next())
}
