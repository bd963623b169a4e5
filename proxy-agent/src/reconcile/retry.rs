// SPDX-License-Identifier: Apache-2.0
//! When what has failed is tried again.

use std::time::Duration;

use crate::backoff;

/// How often in a row something has failed, and when it is tried again. Times are on one clock that
/// never goes back.
#[derive(Debug, Default)]
pub(super) struct Retry(Option<(u32, Duration)>);

impl Retry {
    /// Whether it may be tried now.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.0.is_none_or(|(_, again)| again <= now)
    }

    /// It is wanted otherwise, and need not wait.
    pub(super) const fn at_once(&mut self) {
        if let Some((_, again)) = &mut self.0 {
            *again = Duration::ZERO;
        }
    }

    /// Notes how an attempt has ended.
    pub(super) fn note(&mut self, succeeded: bool, now: Duration) {
        let failures = self.0.map_or(0, |(failures, _)| failures);
        self.0 = (!succeeded).then(|| (failures + 1, now + backoff::pause(failures)));
    }

    /// When there is something to do, if there is.
    pub(super) fn next(&self, has_work: bool) -> Option<Duration> {
        match self.0 {
            Some((_, again)) => Some(again),
            None => has_work.then_some(Duration::ZERO),
        }
    }

    /// Whether the last attempt has failed.
    pub(super) const fn is_failing(&self) -> bool {
        self.0.is_some()
    }
}
