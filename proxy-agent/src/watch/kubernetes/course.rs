// SPDX-License-Identifier: Apache-2.0
//! What to ask the API for next: a state machine without I/O.

use super::{failure::Failure, selection::Ask, version::Version};

/// How often in a row a list must be older than what was known before it is believed: an API
/// server may be behind the others for a while, or all of them may have got an older store back.
const STALE_LISTS: u32 = 3;
/// How many watches in a row may be silent before the objects are listed again: where the API has
/// gone back to an older store, a watch from a version that it does not have yet is silent. Where
/// nothing happens at all it is, too, so each list without news afterwards doubles the number.
const SILENT_WATCHES: u32 = 2;
const MOST_SILENT_WATCHES: u32 = 32;
/// How many streaming lists in a row may fail by an answer before one in pages is tried.
const FAILED_STREAMS: u32 = 3;
/// How many watches in a row may fail by an answer before the objects are listed again.
const FAILED_WATCHES: u32 = 5;

/// What to ask for next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A list as a stream, which goes on with what changes.
    Stream(Ask),
    /// A list in pages.
    Pages(Ask),
    /// What has changed since a version, and what changes.
    Watch(Version),
}

/// How long to wait before the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Not,
    /// So long that not all nodes come together.
    Short,
    /// Longer with each failure.
    Pause,
}

/// What is to be done with the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// To watch on from it.
    Watch,
    /// To list what is not older.
    List,
    /// To list whatever there is: the position is of no use.
    ListLatest,
}

/// How far the agent has come with the objects of a kind.
#[derive(Debug)]
pub(super) struct Course {
    /// Up to which version everything has been told.
    position: Option<Version>,
    aim: Aim,
    /// Whether lists are asked for as streams.
    streaming: bool,
    /// Whether this step has told anything, or has lasted for a while: some proxies cut streams
    /// that are silent.
    progress: bool,
    /// Whether events came in another order than they happened: some may have been lost with the
    /// end of the stream.
    disorder: bool,
    stale: u32,
    silent: u32,
    may_be_silent: u32,
    failed: u32,
    /// How often in a row the version was gone before anything was told.
    expired: u32,
}

impl Course {
    pub(super) const fn new() -> Self {
        Self {
            position: None,
            aim: Aim::ListLatest,
            streaming: true,
            progress: false,
            disorder: false,
            stale: 0,
            silent: 0,
            may_be_silent: SILENT_WATCHES,
            failed: 0,
            expired: 0,
        }
    }

    /// The next step.
    pub(super) fn step(&mut self) -> Step {
        self.progress = false;
        let ask = match (&self.position, self.aim) {
            (Some(position), Aim::Watch) => return Step::Watch(position.clone()),
            (Some(position), Aim::List) => Ask::NotOlderThan(position.clone()),
            _ => Ask::Latest,
        };
        if self.streaming { Step::Stream(ask) } else { Step::Pages(ask) }
    }

    /// Whether a complete list of this version is to be believed.
    pub(super) fn judge(&mut self, version: &Version) -> Result<(), Failure> {
        if let Some(position) = &self.position
            && version.is_older_than(position)
            && self.stale + 1 < STALE_LISTS
        {
            self.stale += 1;
            let (listed, known) = (version.as_str().to_owned(), position.as_str().to_owned());
            return Err(Failure::Stale { listed, known });
        }
        Ok(())
    }

    /// A list has been told.
    pub(super) fn listed(&mut self, version: Version) {
        *self = Self {
            position: Some(version),
            aim: Aim::Watch,
            progress: true,
            disorder: false,
            stale: 0,
            silent: 0,
            failed: 0,
            ..*self
        };
    }

    /// Everything up to a version has been told; whether that was news.
    pub(super) fn told(&mut self, version: Option<Version>, news: bool) {
        self.progress = true;
        (self.silent, self.failed, self.expired) = (0, 0, 0);
        self.may_be_silent = SILENT_WATCHES;
        match (version, &self.position) {
            (Some(version), Some(position)) if version.brings_nothing_after(position) => {
                self.disorder |= news;
            }
            (Some(version), _) => self.position = Some(version),
            (None, _) => {}
        }
    }

    /// A watch has lasted for a while.
    pub(super) const fn lasted(&mut self) {
        self.progress = true;
    }

    /// Whether the version that watches begin with is gone again and again.
    pub(super) const fn is_expiring(&self) -> bool {
        self.expired > 0
    }

    /// A stream has ended as the API ends streams.
    pub(super) const fn ended(&mut self) {
        if self.disorder {
            self.relist();
        }
        self.disorder = false;
    }

    const fn relist(&mut self) {
        if matches!(self.aim, Aim::Watch) {
            self.aim = Aim::List;
        }
    }

    /// A step has failed.
    pub(super) fn failed(&mut self, step: &Step, failure: &Failure) -> Wait {
        // A stream that began with a list is a watch once the list is complete.
        let listing = !matches!(self.aim, Aim::Watch);
        self.ended();
        match step {
            Step::Stream(_) if listing => self.stream_failed(failure),
            Step::Pages(_) if listing => {
                // Pages are used as long as they work: what kept the stream from being complete
                // may have been the network.
                self.streaming = true;
                self.list_failed(failure)
            }
            _ => self.watch_failed(failure),
        }
    }

    const fn stream_failed(&mut self, failure: &Failure) -> Wait {
        match failure {
            Failure::Refused { .. } | Failure::Endless | Failure::Status { code: 403, .. } => {
                self.streaming = false;
                Wait::Not
            }
            Failure::Status { .. }
            | Failure::Expired(_)
            | Failure::Behind(_)
            | Failure::Garbled(_)
            | Failure::Cut(_)
            | Failure::Empty => {
                self.failed += 1;
                if self.failed >= FAILED_STREAMS {
                    self.failed = 0;
                    self.streaming = false;
                }
                self.list_failed(failure)
            }
            _ => self.list_failed(failure),
        }
    }

    const fn list_failed(&mut self, failure: &Failure) -> Wait {
        if matches!(
            failure,
            Failure::Expired(_)
                | Failure::Behind(_)
                | Failure::Refused { .. }
                | Failure::Stale { .. }
                | Failure::NoAnswer(_)
        ) {
            self.aim = Aim::ListLatest;
        }
        Wait::Pause
    }

    fn watch_failed(&mut self, failure: &Failure) -> Wait {
        match failure {
            Failure::Expired(_) => {
                self.aim = Aim::ListLatest;
                self.expired += 1;
                return if self.expired > 1 { Wait::Pause } else { Wait::Short };
            }
            Failure::Behind(_) | Failure::Refused { .. } => self.relist(),
            Failure::Silent(_) => {
                self.silent += 1;
                if self.silent >= self.may_be_silent {
                    self.may_be_silent = MOST_SILENT_WATCHES.min(self.may_be_silent * 2);
                    self.relist();
                }
                return Wait::Short;
            }
            Failure::Cut(_) | Failure::Empty if self.progress => return Wait::Short,
            // Neither is better with a list.
            Failure::Status { code: 401 | 429, .. } => {}
            // Lists may work where watches do not.
            Failure::Garbled(_)
            | Failure::Empty
            | Failure::Absent(_)
            | Failure::NoAnswer(_)
            | Failure::Status { .. } => {
                self.failed += 1;
                if self.failed >= FAILED_WATCHES {
                    self.relist();
                }
            }
            _ => {}
        }
        Wait::Pause
    }
}

#[cfg(test)]
#[path = "course_tests.rs"]
mod tests;
