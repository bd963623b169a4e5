// SPDX-License-Identifier: Apache-2.0

//! What can go wrong between an agent and the API.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::kind::Kind;
use super::query::Query;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A list, or a page of one.
    List,
    /// A list as a stream, and what changes after it.
    Stream,
    /// What changes.
    Watch,
}

impl Verb {
    /// What a query asks for.
    #[must_use]
    pub fn of(query: &Query) -> Self {
        match (query.is("watch"), query.is("sendInitialEvents")) {
            (false, _) => Self::List,
            (true, true) => Self::Stream,
            (true, false) => Self::Watch,
        }
    }
}

/// Which requests something happens to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Which {
    /// Those for objects of this kind.
    pub kind: Option<Kind>,
    /// Those that ask for this.
    pub verb: Option<Verb>,
}

impl Which {
    /// All requests.
    pub const ALL: Self = Self { kind: None, verb: None };

    /// Those for objects of a kind.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        Self { kind: Some(kind), verb: None }
    }

    /// Those of these that ask for this.
    #[must_use]
    pub const fn that(self, verb: Verb) -> Self {
        Self { verb: Some(verb), ..self }
    }

    pub(super) fn matches(self, kind: Kind, verb: Verb) -> bool {
        self.kind.is_none_or(|it| it == kind) && self.verb.is_none_or(|it| it == verb)
    }
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is answered with this status; `retry_after` in seconds.
    Status {
        /// The `Status`.
        status: Value,
        /// What the header `Retry-After` says.
        retry_after: Option<u64>,
    },
    /// It is never answered.
    Stall,
    /// Its connection is reset.
    Reset,
    /// Its answer breaks off after so many bytes.
    CutAfter(usize),
    /// Its stream breaks off in the middle of the event after so many.
    CutInEvent(usize),
    /// Its stream says no more after so many events.
    SilentAfter(usize),
    /// Its stream ends after so many events with this event of the type `ERROR`, a line.
    ErrorAfter(usize, String),
    /// Its stream ends after so many events.
    EndAfter(usize),
    /// Each event of its stream comes twice, and again, in the wrong order, after later ones.
    Repeat,
    /// Two events of its stream change places, again and again.
    Reorder,
    /// Each part of its answer comes so much later.
    Delay(Duration),
    /// After each event of its stream comes another of the object that cannot be decoded; in a list,
    /// the object at this place cannot be.
    Garbage(usize),
    /// A list as a stream is refused.
    RefuseStreaming,
    /// It is taken for a watch by a server that does not know of lists as streams.
    IgnoreStreaming,
    /// There is no such kind.
    Absent,
    /// It is answered by a server that is behind: with this list.
    Stale(Arc<Value>),
}

impl Fault {
    /// Its answer is this status.
    #[must_use]
    pub fn status(code: u16, reason: &str, message: &str) -> Self {
        Self::Status { status: super::query::status(code, reason, message), retry_after: None }
    }

    /// The version is gone, as an answer.
    #[must_use]
    pub fn gone() -> Self {
        Self::status(410, "Expired", "too old resource version: 1 (512)")
    }

    /// The version is gone, as a recorded event after so many others.
    #[must_use]
    pub fn gone_after(events: usize) -> Self {
        Self::ErrorAfter(events, super::recorded::GONE.to_owned())
    }
}
