// SPDX-License-Identifier: Apache-2.0

//! Streams of changes, as the API sends them.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use std::vec;

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Response;
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::kind::Kind;
use super::listener::Body;
use super::object::Object;
use super::query::{Query, behind, status};
use super::replay::{Shared, refusal};
use super::selector::Selector;
use super::store::set_version;

/// Marks the bookmark at the end of the initial events.
pub(super) const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// How many bytes of a list are sent at a time, at least.
const PART: usize = 1 << 16;

/// A stream that a client reads.
struct Watch {
    shared: Arc<Shared>,
    kind: Kind,
    selector: Selector,
    bookmarks: bool,
    /// Up to where changes have been sent.
    sent: u64,
    /// What is still to be sent of the list that the stream begins with.
    listed: vec::IntoIter<Arc<Object>>,
    lines: VecDeque<Bytes>,
    end: Instant,
    ended: bool,
}

/// Answers a watch.
pub(super) fn answer(
    shared: &Arc<Shared>,
    kind: Kind,
    query: &Query,
    selector: Selector,
) -> Response<Body> {
    let since = query.get("resourceVersion").and_then(|version| version.parse().ok());
    let since: u64 = since.unwrap_or(0);
    let seconds = query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok());
    let initial = query.is("sendInitialEvents");
    let mut watch = Watch {
        kind,
        selector,
        bookmarks: query.is("allowWatchBookmarks"),
        sent: since,
        listed: Vec::new().into_iter(),
        lines: VecDeque::new(),
        end: Instant::now() + Duration::from_secs(seconds.unwrap_or(1800)),
        ended: false,
        shared: Arc::clone(shared),
    };
    {
        let state = shared.store.read();
        if initial && since > state.revision {
            return refusal(&behind());
        }
        if initial || since == 0 {
            let of_kind = state.objects.iter().filter(|((it, ..), _)| *it == kind);
            let selected = of_kind.map(|(_, it)| it).filter(|it| watch.selector.matches(it));
            watch.listed = selected.cloned().collect::<Vec<_>>().into_iter();
            watch.sent = state.revision;
            if initial {
                watch.lines.push_back(watch.bookmark(true));
            }
        } else if since < state.compacted {
            let message = format!("too old resource version: {since} ({})", state.compacted);
            watch.lines.push_back(line("ERROR", &status(410, "Expired", &message)));
            watch.ended = true;
        }
    }
    let stream = stream::unfold(watch, |mut watch| async move {
        let line = watch.next().await?;
        Some((Ok::<_, io::Error>(Frame::data(line)), watch))
    });
    Response::new(StreamBody::new(stream).boxed())
}

/// An event, as a line.
pub(super) fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({ "type": kind, "object": object })))
}

/// The event of an object, as a line.
fn event(kind: &str, object: &Object) -> Bytes {
    let mut line = Vec::new();
    object.write_line(kind, &mut line);
    line.into()
}

impl Watch {
    /// The next part of the list that the stream begins with.
    fn list(&mut self) -> Option<Bytes> {
        let mut part = Vec::with_capacity(2 * PART);
        while part.len() < PART
            && let Some(object) = self.listed.next()
        {
            object.write_line("ADDED", &mut part);
        }
        (!part.is_empty()).then(|| part.into())
    }

    async fn next(&mut self) -> Option<Bytes> {
        let mut revision = self.shared.store.revision();
        loop {
            if let Some(part) = self.list() {
                return Some(part);
            }
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.ended || Instant::now() >= self.end {
                return None;
            }
            let _ = *revision.borrow_and_update();
            self.collect();
            if !self.lines.is_empty() {
                let now = Some(Instant::now().into_std());
                *self.shared.last_sent.lock().unwrap_or_else(PoisonError::into_inner) = now;
                continue;
            }
            let pause = *self.shared.bookmarks.lock().unwrap_or_else(PoisonError::into_inner);
            let until = self.end.min(Instant::now() + pause);
            match timeout_at(until, revision.changed()).await {
                Ok(Err(_)) => sleep_until(self.end).await,
                // The API does not tell of versions from before the watch.
                Err(_) if self.bookmarks && self.shared.store.read().revision >= self.sent => {
                    self.sent = self.shared.store.read().revision;
                    let bookmark = self.bookmark(false);
                    self.lines.push_back(bookmark);
                }
                Ok(Ok(())) | Err(_) => {}
            }
        }
    }

    /// Takes the changes that have not been sent.
    fn collect(&mut self) {
        let state = self.shared.store.read();
        if self.sent < state.compacted {
            let gone = status(410, "Expired", "too old resource version");
            self.lines.push_back(line("ERROR", &gone));
            self.ended = true;
            return;
        }
        let known = state.changes.partition_point(|change| change.revision <= self.sent);
        for change in state.changes[known..].iter().filter(|change| change.kind == self.kind) {
            let selected = |object: &Option<Arc<Object>>| {
                object.as_ref().is_some_and(|object| self.selector.matches(object))
            };
            match (selected(&change.before), selected(&change.after), &change.after) {
                (false, true, Some(after)) => self.lines.push_back(event("ADDED", after)),
                (true, true, Some(after)) => self.lines.push_back(event("MODIFIED", after)),
                (true, false, _) => {
                    let gone = change.before.as_ref().map(|before| before.value());
                    let mut gone = gone.unwrap_or_default();
                    set_version(&mut gone, change.revision);
                    self.lines.push_back(line("DELETED", &gone));
                }
                _ => {}
            }
        }
        self.sent = self.sent.max(state.revision);
    }

    fn bookmark(&self, initial: bool) -> Bytes {
        let mut object = json!({
            "kind": self.kind.name(), "apiVersion": self.kind.api_version(),
            "metadata": { "resourceVersion": self.sent.to_string() },
        });
        if initial {
            object["metadata"]["annotations"] = json!({ INITIAL_EVENTS_END: "true" });
        }
        line("BOOKMARK", &object)
    }
}
