// SPDX-License-Identifier: Apache-2.0
//! What tables that were taken over hold for no Service port: the marks of addresses, and what an agent has
//! left behind that was ended amid its work.

use std::time::Duration;

use proxy_common::{
    Family,
    backend::{Backend, BackendId, Standing},
    frontend::{FrontendKey, ServiceIndex},
    service_cidr::Prefix,
};

use super::{
    apply::apply,
    frontends::{Frontends, Target},
    ids::Ids,
    outcome::ReconcileError,
    retry::Retry,
};
use crate::dataplane::{Dataplane, Op};

/// What is nobody's, as far as is known.
#[derive(Debug)]
pub(super) struct Leftovers<F: Family> {
    /// Marks, and frontends of rows that are not there.
    pub(super) frontends: Vec<FrontendKey<F>>,
    /// Backends of rows that are not there, and second ones of an endpoint.
    pub(super) backends: Vec<(BackendId, Backend<F>)>,
    /// Source ranges of rows that are not there.
    pub(super) ranges: Vec<(ServiceIndex, Prefix<F>)>,
    retry: Retry,
}

impl<F: Family> Default for Leftovers<F> {
    fn default() -> Self {
        let (frontends, backends, ranges) = (Vec::new(), Vec::new(), Vec::new());
        Self { frontends, backends, ranges, retry: Retry::default() }
    }
}

impl<F: Family> Leftovers<F> {
    /// Removes what nobody has claimed meanwhile. To be called when all plans are known, and written as far as
    /// they can be; `knows_node` says whether the node's addresses are known, too: the marks of these stay before.
    pub(super) fn flush<D: Dataplane<F>>(
        &mut self,
        (frontends, ids): (&mut Frontends<F>, &mut Ids),
        knows_node: bool,
        dataplane: &mut D,
        now: Duration,
    ) -> Result<(), ReconcileError> {
        if self.is_empty() || !self.retry.is_due(now) {
            return Ok(());
        }
        let waits = |key: &FrontendKey<F>| {
            !knows_node && frontends.applied(key) == Some(ServiceIndex::NODE.into())
        };
        let (waiting, due): (Vec<_>, Vec<_>) = self.frontends.drain(..).partition(waits);
        self.frontends = waiting;
        let is_left = |key: &FrontendKey<F>| {
            frontends.applied(key).is_some() && frontends.target(key) == Target::Nothing
        };
        let due = due.into_iter().filter(is_left);
        let mut ops: Vec<_> = due.map(|key| Op::RemoveFrontend { key }).collect();
        let ranges = self.ranges.drain(..);
        ops.extend(ranges.map(|(index, range)| Op::RemoveSourceRange { index, range }));
        ops.extend(self.backends.drain(..).map(|(id, backend)| {
            let generation = ids.raise_generation(id);
            Op::RetireBackend {
                id,
                backend: Backend { generation, standing: Standing::GONE, ..backend },
            }
        }));
        let mut done = 0;
        let outcome = apply(dataplane, &ops, |op| {
            done += 1;
            match op {
                Op::RetireBackend { id, .. } => ids.release_backend(*id, now),
                _ => frontends.commit(op),
            }
        });
        for op in ops.drain(..).skip(done) {
            match op {
                Op::RemoveFrontend { key } => self.frontends.push(key),
                Op::RemoveSourceRange { index, range } => self.ranges.push((index, range)),
                Op::RetireBackend { id, backend } => self.backends.push((id, backend)),
                _ => {}
            }
        }
        self.retry.note(outcome.is_ok(), now);
        outcome
    }

    /// When there is something to do, where something has failed.
    pub(super) fn next(&self) -> Option<Duration> {
        self.retry.next(false)
    }

    /// Whether the last attempt has failed.
    pub(super) const fn is_failing(&self) -> bool {
        self.retry.is_failing()
    }

    const fn is_empty(&self) -> bool {
        self.frontends.is_empty() && self.backends.is_empty() && self.ranges.is_empty()
    }
}
