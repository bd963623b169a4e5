// SPDX-License-Identifier: Apache-2.0

//! Lists, whole or in pages, as the API sends them.

use std::sync::PoisonError;

use hyper::Response;
use serde_json::json;

use super::kind::Kind;
use super::listener::Body;
use super::query::{Query, behind, status};
use super::replay::{Shared, refusal, text_answer};
use super::selector::Selector;

/// Answers a request for a list, or for a page of one.
pub(super) fn answer(
    shared: &Shared,
    kind: Kind,
    query: &Query,
    selector: &Selector,
) -> Response<Body> {
    let state = shared.store.read();
    let wanted = query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
    if wanted > state.revision {
        return refusal(&behind());
    }
    let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let mut pages = shared.pages.lock().unwrap_or_else(PoisonError::into_inner);
    let token = query.get("continue").and_then(|token| token.split_once('.'));
    let (number, from) = match token {
        None => {
            let of_kind = state.objects.iter().filter(|((it, ..), _)| *it == kind);
            let items = of_kind.map(|(_, object)| object).filter(|object| selector.matches(object));
            pages.push((state.revision, items.cloned().collect()));
            (pages.len() - 1, 0)
        }
        Some((number, from)) => {
            (number.parse().unwrap_or(usize::MAX), from.parse().unwrap_or(usize::MAX))
        }
    };
    let page = pages.get(number).filter(|(revision, _)| from == 0 || *revision >= state.compacted);
    let Some((revision, items)) = page else {
        let gone =
            "The provided continue parameter is too old to display a consistent list result.";
        return refusal(&status(410, "Expired", gone));
    };
    let end = items.len().min(from.saturating_add(limit));
    let mut metadata = json!({ "resourceVersion": revision.to_string() });
    if end < items.len() {
        metadata["continue"] = format!("{number}.{end}").into();
        metadata["remainingItemCount"] = (items.len() - end).into();
    }
    let head = json!({
        "kind": format!("{}List", kind.name()), "apiVersion": kind.api_version(),
        "metadata": metadata,
    });
    let mut text = head.to_string().into_bytes();
    // Instead of the brace at its end.
    let _ = text.pop();
    text.extend_from_slice(br#","items":["#);
    for (at, item) in items.get(from..end).unwrap_or_default().iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        text.extend_from_slice(item.item());
    }
    text.extend_from_slice(b"]}");
    text_answer(200, text)
}
