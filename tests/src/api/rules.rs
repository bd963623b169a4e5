// SPDX-License-Identifier: Apache-2.0

//! What a cluster allows, and what its API makes of new objects.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

/// What a cluster has besides objects. By itself it allows everything and changes nothing.
pub trait Rules: Send + Sync {
    /// The `Status` with which a request is refused, if it is.
    fn refuse(&self, method: &str, path: &str) -> Option<Value> {
        let _ = (method, path);
        None
    }

    /// Gives a new object what the API gives it, beside name and namespace.
    fn complete(&self, object: &mut Value) {
        let _ = object;
    }
}

/// No rules.
pub(super) const NONE: NoRules = NoRules;

/// See [`NONE`].
pub(super) struct NoRules;

impl Rules for NoRules {}

/// Completes an object that is made at `path`.
pub(super) fn admit(rules: &dyn Rules, path: &str, object: &mut Value) {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let metadata = &mut object["metadata"];
    if let (None, Some(start)) = (metadata["name"].as_str(), metadata["generateName"].as_str()) {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        metadata["name"] = format!("{start}{number:05}").into();
    }
    if let Some((namespace, _)) =
        path.split_once("/namespaces/").and_then(|(_, rest)| rest.split_once('/'))
    {
        metadata["namespace"] = namespace.into();
    }
    rules.complete(object);
}
