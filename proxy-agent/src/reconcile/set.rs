// SPDX-License-Identifier: Apache-2.0
//! One backend set of a Service port: the word that is published, its slots, and what is to be
//! published next.

use std::{mem, ops::Range, time::Duration};

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

    /// The longest part of it whose slots are together and name some of these, if any does.
    fn longest_run(&self, ids: &[BackendId], sockets_only: bool) -> Option<Self> {
        let stays = |id: &BackendId| self.word.is_mapped() == sockets_only && ids.contains(id);
        let runs = self.ids.chunk_by(|one, next| stays(one) == stays(next));
        let run = runs.filter(|run| stays(&run[0])).max_by_key(|run| run.len())?;
        let mut slots = (self.word.start()..).zip(&self.ids);
        let (start, _) = slots.find(|(_, id)| **id == run[0])?;
        let slots = BackendSet::new(start, u32::try_from(run.len()).ok()?);
        let word = if sockets_only { slots.mapped() } else { slots };
        Some(Self { word, ids: run.to_vec() })
    }

    /// The slots, if there are any.
    const fn slots(&self) -> Range<u32> {
        let count = self.word.count();
        if count == 0 { 0..0 } else { self.word.start()..self.word.start() + count }
    }
}

impl Set {
    /// Prepares what is to be published, if that differs from what is. `empty` is the word of a set without
    /// members, `sockets_only` says whether these are for sockets alone.
    pub(super) fn stage(
        &mut self,
        empty: BackendSet,
        members: &[BackendId],
        sockets_only: bool,
        ids: &mut Ids,
        now: Duration,
    ) -> Result<(), Exhausted> {
        let Ok(count) = u32::try_from(members.len()) else {
            return Err(Exhausted::slots(u32::MAX));
        };
        if count == 0 {
            self.stage_empty(empty, ids, now);
        } else if self.staged.as_ref().is_none_or(|staged| !staged.are(members, sockets_only)) {
            self.unstage(ids, now);
            if !self.published.are(members, sockets_only) {
                let slots = ids.take_slots(count, now)?;
                let word = if sockets_only { slots.mapped() } else { slots };
                let ids = members.to_vec();
                self.staged = Some(Members { word, ids });
            }
        }
        Ok(())
    }

    /// Where there are no slots for all members: prepares as many of them as there is room for. If all that are
    /// published are among them, these stay; or else those whose slots are together, if there are more of them than
    /// of free slots; or none, so that all slots of the set are free before long.
    pub(super) fn stage_part(
        &mut self,
        members: &[BackendId],
        sockets_only: bool,
        ids: &mut Ids,
        now: Duration,
    ) {
        let own = self.published.longest_run(members, sockets_only);
        let is_whole = |own: &Members| own.ids.len() == self.published.ids.len();
        if own.as_ref().is_some_and(is_whole) {
            return;
        }
        let room = ids.longest_slots(now) as usize;
        if room > own.as_ref().map_or(0, |own| own.ids.len()) {
            let members = &members[..room.min(members.len())];
            if self.stage(BackendSet::REJECT, members, sockets_only, ids, now).is_ok() {
                return;
            }
        }
        if own.is_none() {
            self.stage_empty(BackendSet::REJECT, ids, now);
        } else {
            self.staged = own;
        }
    }

    /// Prepares a set without members.
    pub(super) fn stage_empty(&mut self, word: BackendSet, ids: &mut Ids, now: Duration) {
        self.unstage(ids, now);
        let members = Members { word, ids: Vec::new() };
        self.staged = (self.published.word != word).then_some(members);
    }

    /// The staged slots that are to be written.
    pub(super) fn unwritten(&self) -> Option<(u32, &[BackendId])> {
        let staged = self.staged.as_ref().filter(|staged| !staged.ids.is_empty())?;
        (!self.is_staged_in_place()).then_some((staged.word.start(), &staged.ids))
    }

    /// Whether what is staged is a part of what is published.
    fn is_staged_in_place(&self) -> bool {
        let slots = self.published.slots();
        self.staged
            .as_ref()
            .is_some_and(|staged| !staged.ids.is_empty() && slots.contains(&staged.word.start()))
    }

    fn unstage(&mut self, ids: &mut Ids, now: Duration) {
        let is_in_place = self.is_staged_in_place();
        if let Some(staged) = self.staged.take()
            && !is_in_place
        {
            ids.release_slots(staged.slots(), now);
        }
    }

    /// The staged members are published; those before them are not any more.
    pub(super) fn publish(&mut self, ids: &mut Ids, now: Duration) {
        let is_in_place = self.is_staged_in_place();
        if let Some(staged) = self.staged.take() {
            let after = staged.slots();
            let before = mem::replace(&mut self.published, staged).slots();
            if is_in_place {
                ids.release_slots(before.start..after.start, now);
                ids.release_slots(after.end..before.end, now);
            } else {
                ids.release_slots(before, now);
            }
        }
    }

    /// Takes all slots back.
    pub(super) fn release(mut self, ids: &mut Ids, now: Duration) {
        self.unstage(ids, now);
        ids.release_slots(self.published.slots(), now);
    }
}
