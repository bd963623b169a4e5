// SPDX-License-Identifier: Apache-2.0
//! What goes wrong between the agent and the API.

use std::time::Duration;

use kube::core::Status;

/// The longest that the API's word is taken for how long to stay away.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(1);

/// What went wrong with a request or a stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// 410: the version is too old, or the list's continuation is.
    #[error("the API does not have that version any more ({0})")]
    Expired(String),
    /// The API server is behind the version that was asked for.
    #[error("this API server is behind what was known already ({0})")]
    Behind(String),
    /// The request is refused for what it asks.
    #[error("the API refuses the request with {code} ({message})")]
    Refused {
        /// The status code.
        code: u16,
        /// What it said.
        message: String,
    },
    /// There is no such kind.
    #[error("the API has no such kind ({0})")]
    Absent(String),
    /// Another status.
    #[error("the API answers {code} {reason}")]
    Status {
        /// The status code.
        code: u16,
        /// The reason as the API has it, or what it said.
        reason: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// There is no way to make requests.
    #[error("cannot use the credentials ({0})")]
    Credentials(String),
    /// The request could not be sent, or its answer not be received.
    #[error("cannot reach the API ({0})")]
    Unreachable(String),
    /// There was no answer in time.
    #[error("the API does not answer within {0:?}")]
    NoAnswer(Duration),
    /// A stream has been silent for longer than the API is.
    #[error("the API has said nothing for {0:?}")]
    Silent(Duration),
    /// A stream has ended at once.
    #[error("the API ends the stream at once")]
    Empty,
    /// A stream has broken off.
    #[error("the stream broke off ({0})")]
    Cut(String),
    /// A streaming list has no end.
    #[error("the API does not say that the streaming list is complete")]
    Endless,
    /// A list that is older than what was known.
    #[error("the API gives a list of version {listed}, which is older than {known}, seen before")]
    Stale {
        /// Its version.
        listed: String,
        /// The version that was known.
        known: String,
    },
    /// It is not what the API sends.
    #[error("the API sends what cannot be read ({0})")]
    Garbled(String),
}

impl Failure {
    /// What a `Status` means, whether as an answer or as an event in a stream.
    pub(super) fn from_status(status: Status, retry_after: Option<Duration>) -> Self {
        let Status { code, message, reason, details, .. } = status;
        let causes = details.as_ref().map(|details| &details.causes[..]).unwrap_or_default();
        let behind = causes.iter().any(|cause| cause.reason == "ResourceVersionTooLarge");
        match code {
            410 => Self::Expired(message),
            _ if behind || message.contains("Too large resource version") => Self::Behind(message),
            400 | 405 | 415 | 422 => Self::Refused { code, message },
            404 => Self::Absent(message),
            _ => {
                let seconds = details.map_or(0, |details| details.retry_after_seconds);
                let told = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
                let retry_after = retry_after.or(told).map(|time| time.min(LONGEST_RETRY_AFTER));
                // What is denied, and to whom, is in the message only.
                let reason = match code {
                    401 | 403 => format!("{reason}: {message}"),
                    _ if reason.is_empty() => message,
                    _ => reason,
                };
                Self::Status { code, reason, retry_after }
            }
        }
    }

    /// Whether other credentials, or another connection, may help.
    pub(super) const fn wants_another_client(&self) -> bool {
        match self {
            // A client that could not get credentials is somebody who may do nothing.
            Self::Status { code, .. } => matches!(*code, 401 | 403),
            Self::Credentials(_)
            | Self::Unreachable(_)
            | Self::NoAnswer(_)
            | Self::Behind(_)
            | Self::Stale { .. } => true,
            _ => false,
        }
    }

    /// How long the API wants to be left alone.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What tells one kind of trouble from another: what is in the text may change each time.
    pub(super) fn topic(&self) -> String {
        match self {
            Self::Refused { code, .. } | Self::Status { code, .. } => code.to_string(),
            Self::Unreachable(text) | Self::Credentials(text) => text.clone(),
            Self::Stale { .. } => "stale".to_owned(),
            Self::Garbled(_) => "garbled".to_owned(),
            Self::Cut(_) => "cut".to_owned(),
            Self::Expired(_) => "expired".to_owned(),
            Self::Behind(_) => "behind".to_owned(),
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn failure(status: Value) -> Failure {
        Failure::from_status(serde_json::from_value(status).unwrap(), None)
    }

    #[test]
    fn statuses_are_told_apart() {
        let gone = json!({"code": 410, "reason": "Expired", "message": "too old"});
        assert!(matches!(failure(gone), Failure::Expired(_)));
        let behind = json!({
            "code": 504, "reason": "Timeout", "message": "Timeout: Too large resource version: 9",
            "details": {
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "x", "field": ""}],
                "retryAfterSeconds": 1,
            },
        });
        assert!(matches!(failure(behind), Failure::Behind(_)));
        let refused = json!({"code": 422, "message": "sendInitialEvents is forbidden"});
        assert!(matches!(failure(refused), Failure::Refused { code: 422, .. }));
        let busy = json!({
            "code": 429, "reason": "TooManyRequests", "details": {"retryAfterSeconds": 7},
        });
        assert_eq!(failure(busy).retry_after(), Some(Duration::from_secs(7)));
        let never = json!({"code": 503, "details": {"retryAfterSeconds": 4_000_000}});
        assert_eq!(failure(never).retry_after(), Some(LONGEST_RETRY_AFTER));
        assert!(failure(json!({"code": 401})).wants_another_client());
        let forbidden =
            json!({"code": 403, "reason": "Forbidden", "message": "nodes is forbidden"});
        assert!(failure(forbidden).to_string().contains("nodes is forbidden"));
    }
}
