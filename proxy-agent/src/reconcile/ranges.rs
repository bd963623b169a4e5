// SPDX-License-Identifier: Apache-2.0
//! The source ranges of one Service port.

use std::{collections::BTreeSet, time::Duration};

use proxy_common::{Family, frontend::ServiceIndex, service_cidr::Prefix};

use super::allocator::REST;
use crate::dataplane::Op;

/// What the table holds for a Service port.
#[derive(Debug)]
pub(super) struct Ranges<F: Family> {
    applied: BTreeSet<Prefix<F>>,
    /// Since when the policy does not restrict clients.
    unwanted_since: Option<Duration>,
}

impl<F: Family> Ranges<F> {
    pub(super) const fn new() -> Self {
        Self { applied: BTreeSet::new(), unwanted_since: None }
    }

    /// Whether the table holds none.
    pub(super) fn is_empty(&self) -> bool {
        self.applied.is_empty()
    }

    /// What must be added before the policy restricts clients to these ranges.
    pub(super) fn raise(
        &mut self,
        index: ServiceIndex,
        wanted: &[Prefix<F>],
        ops: &mut Vec<Op<F>>,
    ) {
        if !wanted.is_empty() {
            self.unwanted_since = None;
        }
        let new = wanted.iter().copied().filter(|range| !self.applied.contains(range));
        ops.extend(new.map(|range| Op::PutSourceRange { index, range }));
    }

    /// What must be removed once the policy is that of these ranges; `is_gone` says that the Service
    /// port is. If it restricts nobody any more, a program may have read the one before and be about
    /// to look for a range, so that all stay for a while: the result says until when.
    pub(super) fn lower(
        &mut self,
        index: ServiceIndex,
        wanted: &[Prefix<F>],
        is_gone: bool,
        now: Duration,
        ops: &mut Vec<Op<F>>,
    ) -> Option<Duration> {
        if wanted.is_empty() && !is_gone && !self.applied.is_empty() {
            let rested = *self.unwanted_since.get_or_insert(now) + REST;
            if now < rested {
                return Some(rested);
            }
        }
        let old = self.applied.iter().copied().filter(|range| !wanted.contains(range));
        ops.extend(old.map(|range| Op::RemoveSourceRange { index, range }));
        None
    }

    /// What may be removed although there was no room for all that is wanted. One range stays, or nobody would be
    /// admitted.
    pub(super) fn relieve(&self, index: ServiceIndex, wanted: &[Prefix<F>], ops: &mut Vec<Op<F>>) {
        let old = self.applied.iter().copied().filter(|range| !wanted.contains(range));
        let spare = self.applied.len().saturating_sub(1);
        ops.extend(old.take(spare).map(|range| Op::RemoveSourceRange { index, range }));
    }

    /// Notes that a range has been added.
    pub(super) fn added(&mut self, range: Prefix<F>) {
        let _ = self.applied.insert(range);
    }

    /// Notes that a range has been removed.
    pub(super) fn removed(&mut self, range: &Prefix<F>) {
        let _ = self.applied.remove(range);
    }
}
