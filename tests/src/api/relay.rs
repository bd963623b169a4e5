// SPDX-License-Identifier: Apache-2.0

//! The answer of an API server on its way to a client, and what happens to it there.

use std::collections::VecDeque;
use std::io;

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::fault::Fault;
use super::listener::Body;

/// How many events come again, when others have come.
const LATE: usize = 6;

/// A stream on its way.
struct Relay {
    from: Incoming,
    fault: Option<Fault>,
    buffer: Vec<u8>,
    /// Complete lines that have come.
    lines: VecDeque<Bytes>,
    /// What is sent next.
    out: VecDeque<io::Result<Bytes>>,
    /// The last events.
    recent: VecDeque<Bytes>,
    /// An event that is held back.
    held: Option<Bytes>,
    sent: usize,
    ended: bool,
}

/// Passes a stream of events on.
pub(super) fn events(from: Incoming, fault: Option<Fault>) -> Body {
    let relay = Relay {
        from,
        fault,
        buffer: Vec::new(),
        lines: VecDeque::new(),
        out: VecDeque::new(),
        recent: VecDeque::new(),
        held: None,
        sent: 0,
        ended: false,
    };
    let stream = stream::unfold(relay, |mut relay| async move {
        let part = relay.next().await?;
        Some((part.map(Frame::data), relay))
    });
    StreamBody::new(stream).boxed()
}

/// Passes a list on.
pub(super) fn list(text: &Bytes, fault: Option<&Fault>) -> Body {
    let mut parts: Vec<io::Result<Bytes>> = Vec::new();
    match fault {
        Some(Fault::CutAfter(bytes)) => {
            parts.push(Ok(text.slice(..(*bytes).min(text.len() / 2))));
            parts.push(Err(cut()));
        }
        Some(Fault::Garbage(at)) => parts.push(Ok(with_garbage(text, *at))),
        _ => parts.push(Ok(text.clone())),
    }
    let parts = parts.into_iter().map(|part| part.map(Frame::data));
    StreamBody::new(stream::iter(parts)).boxed()
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "cut by the test")
}

/// The list with an object in it that cannot be decoded.
fn with_garbage(text: &Bytes, at: usize) -> Bytes {
    let mut list: Value = serde_json::from_slice(text).unwrap_or_default();
    if let Some(item) = list.pointer_mut(&format!("/items/{at}")) {
        spoil(item);
    }
    Bytes::from(list.to_string())
}

/// Makes an object one that cannot be decoded.
fn spoil(object: &mut Value) {
    for field in ["spec", "endpoints", "status"] {
        object[field] = json!("spoilt");
    }
}

impl Relay {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(part) = self.out.pop_front() {
                if let Some(Fault::Delay(time)) = &self.fault {
                    sleep(*time).await;
                }
                return Some(part);
            }
            if self.ended {
                return None;
            }
            match self.lines.pop_front() {
                Some(line) => self.pass(line).await,
                None => self.read().await,
            }
        }
    }

    async fn read(&mut self) {
        match self.from.frame().await {
            Some(Ok(frame)) => {
                self.buffer.extend_from_slice(&frame.into_data().unwrap_or_default());
                while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                    self.lines.push_back(self.buffer.drain(..=end).collect());
                }
            }
            Some(Err(error)) => {
                self.out.push_back(Err(io::Error::other(error)));
                self.ended = true;
            }
            None => {
                self.out.extend(self.held.take().map(Ok));
                self.ended = true;
            }
        }
    }

    /// Passes a line on, with what happens to it.
    async fn pass(&mut self, line: Bytes) {
        let half = line.slice(..line.len() / 2);
        match &self.fault {
            Some(Fault::CutAfter(bytes)) if self.sent + line.len() > *bytes => {
                self.out.push_back(Ok(line.slice(..bytes.saturating_sub(self.sent))));
                self.break_off();
                return;
            }
            Some(Fault::CutAfter(_)) => self.sent += line.len(),
            Some(Fault::CutInEvent(events)) if self.sent == *events => {
                self.out.push_back(Ok(half));
                self.break_off();
                return;
            }
            Some(Fault::SilentAfter(events)) if self.sent == *events => {
                return std::future::pending().await;
            }
            Some(Fault::ErrorAfter(events, error)) if self.sent == *events => {
                let error = Bytes::from(format!("{}\n", error.trim()));
                self.out.push_back(Ok(error));
                self.ended = true;
                return;
            }
            Some(Fault::EndAfter(events)) if self.sent == *events => {
                self.ended = true;
                return;
            }
            Some(Fault::Repeat) => {
                self.out.extend([Ok(line.clone()), Ok(line.clone())]);
                self.out.extend(self.recent.iter().rev().cloned().map(Ok));
                if !is_bookmark(&line) {
                    self.recent.push_back(line);
                    if self.recent.len() > LATE {
                        drop(self.recent.pop_front());
                    }
                }
                return;
            }
            Some(Fault::Reorder) if !is_bookmark(&line) => {
                match self.held.take() {
                    None => self.held = Some(line),
                    Some(earlier) => self.out.extend([Ok(line), Ok(earlier)]),
                }
                return;
            }
            Some(Fault::Reorder) => self.out.extend(self.held.take().map(Ok)),
            Some(Fault::Garbage(_)) if !is_bookmark(&line) => {
                let mut event: Value = serde_json::from_slice(&line).unwrap_or_default();
                if event["type"] != "DELETED" {
                    event["type"] = json!("MODIFIED");
                    spoil(&mut event["object"]);
                    if let Some(metadata) = event["object"]["metadata"].as_object_mut() {
                        drop(metadata.remove("resourceVersion"));
                    }
                    self.out.extend([Ok(line), Ok(Bytes::from(format!("{event}\n")))]);
                    return;
                }
            }
            _ => {}
        }
        if !matches!(self.fault, Some(Fault::CutAfter(_))) {
            self.sent += 1;
        }
        self.out.push_back(Ok(line));
    }

    fn break_off(&mut self) {
        self.out.push_back(Err(cut()));
        self.ended = true;
    }
}

fn is_bookmark(line: &Bytes) -> bool {
    line.windows(10).any(|text| text == b"\"BOOKMARK\"")
}
