// SPDX-License-Identifier: Apache-2.0

//! Objects with versions, as the API keeps them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::kind::{Kind, name_of};
use super::object::Object;

/// Objects, each with its kind, namespace and name.
pub(super) type Objects = BTreeMap<(Kind, String, String), Arc<Object>>;

/// The objects of a cluster, and how they came to be.
#[derive(Debug)]
pub(super) struct Store {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

/// What is in a store.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) revision: u64,
    pub(super) objects: Objects,
    pub(super) changes: Vec<Change>,
    /// Changes up to this version are not known any more.
    pub(super) compacted: u64,
}

/// A change of an object.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) kind: Kind,
    pub(super) before: Option<Arc<Object>>,
    pub(super) after: Option<Arc<Object>>,
}

impl Store {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), revision: watch::Sender::new(0) }
    }

    /// What is in it.
    pub(super) fn read(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version, now and whenever it changes.
    pub(super) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Takes a list as the API has sent it.
    pub(super) fn load(&self, list: &Value) {
        let mut state = self.read();
        let name = list["kind"].as_str().and_then(|kind| kind.strip_suffix("List"));
        let kind = Kind::ALL.into_iter().find(|kind| Some(kind.name()) == name);
        for item in list["items"].as_array().into_iter().flatten() {
            if let Some(kind) = kind {
                let (namespace, name) = name_of(item);
                state.revision = state.revision.max(version_of(item));
                let item = Arc::new(Object::new(kind, item.clone()));
                drop(state.objects.insert((kind, namespace, name), item));
            }
        }
    }

    /// Takes objects that say what they are, each at a version of its own, and no history of them.
    pub(super) fn fill(&self, objects: impl IntoIterator<Item = Value>) {
        for mut object in objects {
            if let Some(kind) = Kind::of(&object) {
                let (namespace, name) = name_of(&object);
                let mut state = self.read();
                state.revision += 1;
                set_version(&mut object, state.revision);
                let object = Arc::new(Object::new(kind, object));
                drop(state.objects.insert((kind, namespace, name), object));
            }
        }
        let revision = self.read().revision;
        self.set_revision(revision);
    }

    /// Sets the version, and forgets how it was reached.
    pub(super) fn set_revision(&self, revision: u64) {
        let mut state = self.read();
        state.revision = revision;
        state.compacted = revision;
        state.changes.clear();
        drop(state);
        let _ = self.revision.send_replace(revision);
    }

    /// Writes an object, or removes it; at the version that it has if `recorded`.
    pub(super) fn write(&self, object: &Value, removed: bool, recorded: bool) -> bool {
        let Some(kind) = Kind::of(object) else { return false };
        let (namespace, name) = name_of(object);
        let key = (kind, namespace, name);
        let mut state = self.read();
        let revision = if recorded { version_of(object) } else { state.revision + 1 };
        let before = state.objects.remove(&key);
        if removed && before.is_none() {
            return false;
        }
        let after = (!removed).then(|| {
            let mut object = object.clone();
            set_version(&mut object, revision);
            if object["metadata"].get("creationTimestamp").is_none() {
                object["metadata"]["creationTimestamp"] = json!("2026-11-20T23:19:38Z");
            }
            Arc::new(Object::new(kind, object))
        });
        if let Some(after) = &after {
            drop(state.objects.insert(key, Arc::clone(after)));
        }
        state.revision = revision;
        state.changes.push(Change { revision, kind, before, after });
        drop(state);
        let _ = self.revision.send_replace(revision);
        true
    }

    /// Forgets all changes: watches from before are too old.
    pub(super) fn compact(&self) {
        let mut state = self.read();
        state.compacted = state.revision;
        state.changes.clear();
    }

    /// A copy of what is in it, to be restored.
    pub(super) fn backup(&self) -> (u64, Objects) {
        let state = self.read();
        (state.revision, state.objects.clone())
    }

    /// What was in it once, at the version of then.
    pub(super) fn restore(&self, (revision, objects): (u64, Objects)) {
        self.read().objects = objects;
        self.set_revision(revision);
    }
}

/// The version of an object; 0 if it has none.
fn version_of(object: &Value) -> u64 {
    let version = object["metadata"]["resourceVersion"].as_str();
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

pub(super) fn set_version(object: &mut Value, revision: u64) {
    object["metadata"]["resourceVersion"] = revision.to_string().into();
}
