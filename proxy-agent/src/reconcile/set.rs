// SPDX-License-Identifier: Apache-2.0
//! One backend set of a Service port: the word that is published, its slots, and what is to be
//! published next.

use std::{mem, time::Duration};

use proxy_common::{backend::BackendId, service::BackendSet};

use super::ids::{Exhausted, Ids};

/// One of the words of the Service port's row.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) published: Members,
    /// What is to be published next. Its slots may be written already.
    pub(super) staged: Option<Members>,
    /// Since when no policy wants it.
    pub(super) unwanted_since: Option<Duration>,
}

/// A word, and what its slots name. (The default, no slots and a refusal, is what a cleared row
/// holds.)
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) word: BackendSet,
    pub(super) ids: Vec<BackendId>,
}

impl Members {
    fn are(&self, ids: &[BackendId], sockets_only: bool) -> bool {
        self.ids == ids && self.word.is_mapped() == sockets_only
    }
}

impl Set {
    /// Prepares what is to be published; says whether that differs from what is. `empty` is the
    /// word of a set without members, `sockets_only` says whether these are for sockets alone.
    pub(super) fn stage(
        &mut self,
        empty: BackendSet,
        members: Vec<BackendId>,
        sockets_only: bool,
        ids: &mut Ids,
        now: Duration,
    ) -> Result<bool, Exhausted> {
        let Ok(count) = u32::try_from(members.len()) else {
            let count = u32::MAX;
            let table = "slots";
            return Err(Exhausted { table, count });
        };
        if count == 0 {
            self.stage_empty(empty, ids, now);
        } else if self.staged.as_ref().is_none_or(|staged| !staged.are(&members, sockets_only)) {
            self.unstage(ids, now);
            if !self.published.are(&members, sockets_only) {
                let slots = ids.take_slots(count, now)?;
                let word = if sockets_only { slots.mapped() } else { slots };
                let ids = members;
                self.staged = Some(Members { word, ids });
            }
        }
        Ok(self.staged.is_some())
    }

    /// Prepares a set without members.
    pub(super) fn stage_empty(&mut self, word: BackendSet, ids: &mut Ids, now: Duration) {
        self.unstage(ids, now);
        let members = Members { word, ids: Vec::new() };
        self.staged = (self.published.word != word).then_some(members);
    }

    fn unstage(&mut self, ids: &mut Ids, now: Duration) {
        if let Some(staged) = self.staged.take() {
            ids.release_slots(staged.word, now);
        }
    }

    /// The staged members are published; those before them are not any more.
    pub(super) fn publish(&mut self, ids: &mut Ids, now: Duration) {
        if let Some(staged) = self.staged.take() {
            let before = mem::replace(&mut self.published, staged);
            ids.release_slots(before.word, now);
        }
    }
}
