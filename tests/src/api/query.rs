// SPDX-License-Identifier: Apache-2.0

//! Requests for lists and watches, and whether the API accepts them.

use std::collections::BTreeMap;

use hyper::Uri;
use serde_json::{Value, json};

use super::kind::Kind;
use super::selector::Selector;

/// The parameters of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Those of an address.
    #[must_use]
    pub fn of(uri: &Uri) -> Self {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// A parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether a parameter is `true`.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    /// The names of all parameters.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Removes a parameter.
    pub(super) fn remove(&mut self, name: &str) {
        drop(self.0.remove(name));
    }

    /// As it stands in an address.
    pub(super) fn encode(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }

    /// What it selects, unless the API refuses it.
    pub(super) fn check(&self, kind: Kind) -> Result<Selector, Value> {
        let invalid = |message: &str| Err(status(422, "Invalid", message));
        let version = self.get("resourceVersion").unwrap_or_default();
        let matching = self.get("resourceVersionMatch");
        let watch = self.is("watch");
        if self.get("sendInitialEvents").is_some() {
            if !watch {
                return invalid("sendInitialEvents is forbidden for list");
            }
            if matching != Some("NotOlderThan") {
                return invalid("sendInitialEvents requires resourceVersionMatch=NotOlderThan");
            }
        } else if watch && matching.is_some() {
            return invalid(
                "resourceVersionMatch is forbidden for watch without sendInitialEvents",
            );
        }
        if !watch && matching.is_some() {
            if version.is_empty() || self.get("continue").is_some() {
                return invalid(
                    "resourceVersionMatch is forbidden unless resourceVersion is given",
                );
            }
            if !matches!(matching, Some("NotOlderThan" | "Exact")) {
                return invalid("resourceVersionMatch is not one of NotOlderThan, Exact");
            }
        }
        if self.get("continue").is_some() && !version.is_empty() && version != "0" {
            return invalid("specifying resource version is not allowed when using continue");
        }
        if !version.is_empty() && version.parse::<u64>().is_err() {
            return invalid("resourceVersion: Invalid value");
        }
        let fields = self.get("fieldSelector").unwrap_or_default();
        let known = kind.selectable();
        let mut named = fields.split(',').filter(|term| !term.is_empty());
        if !named.all(|term| known.iter().any(|known| term.starts_with(known))) {
            return Err(status(400, "BadRequest", "field label not supported"));
        }
        Selector::parse(self.get("labelSelector").unwrap_or_default(), fields)
            .map_err(|error| status(400, "BadRequest", &error.to_string()))
    }
}

/// An error as the API says it.
#[must_use]
pub fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

/// The error of a server that does not have a version yet.
pub(super) fn behind() -> Value {
    let mut behind = status(504, "Timeout", "Timeout: Too large resource version");
    behind["details"] = json!({
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    });
    behind
}
