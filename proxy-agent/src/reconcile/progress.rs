// SPDX-License-Identifier: Apache-2.0
//! Whether anything can be done at all.

use std::{collections::HashSet, mem};

use proxy_common::Family;

use super::outcome::ReconcileError;
use crate::{
    dataplane::{Contents, Dataplane, Failure, Op},
    model::ServiceName,
};

/// Which Services fail, and whether that is theirs alone.
///
/// One that fails while others are done has itself to blame: it does not fit, say. Where several
/// fail and none is done, it may be that nothing can be.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Those that have begun to fail since something was last done.
    suspicious: HashSet<ServiceName>,
    /// Those since whose first failure something has been done.
    known: HashSet<ServiceName>,
}

impl Progress {
    /// A Service has failed. One for which there are no rows fits no more, which says nothing of
    /// the others.
    pub(super) fn failed(&mut self, service: &ServiceName, error: &ReconcileError) {
        if let ReconcileError::Apply { .. } = error
            && !self.known.contains(service)
        {
            let _ = self.suspicious.insert(service.clone());
        }
    }

    /// All has been done for a Service but its marks.
    pub(super) fn succeeded(&mut self, service: &ServiceName) {
        let _ = self.suspicious.remove(service);
        let _ = self.known.remove(service);
    }

    /// Something has been done, so that what fails is not all.
    pub(super) fn went_on(&mut self) {
        self.known.extend(self.suspicious.drain());
    }

    /// Whether several Services fail and, since the first of them began to, nothing has been done.
    pub(super) fn is_stuck(&self) -> bool {
        self.suspicious.len() > 1
    }
}

/// A dataplane that notes whether it is written to.
pub(super) struct Watched<'a, D> {
    inner: &'a mut D,
    has_written: bool,
}

impl<'a, D> Watched<'a, D> {
    pub(super) const fn new(inner: &'a mut D) -> Self {
        Self { inner, has_written: false }
    }

    /// Whether anything has been written since the last call.
    pub(super) const fn take_written(&mut self) -> bool {
        mem::replace(&mut self.has_written, false)
    }
}

impl<F: Family, D: Dataplane<F>> Dataplane<F> for Watched<'_, D> {
    type Error = D::Error;

    fn apply(&mut self, ops: &[Op<F>]) -> Result<(), Failure<D::Error>> {
        let outcome = self.inner.apply(ops);
        let applied = outcome.as_ref().map_or_else(|failure| failure.applied, |()| ops.len());
        self.has_written |= applied > 0;
        outcome
    }

    fn take_over(&mut self) -> Result<Contents<F>, D::Error> {
        self.inner.take_over()
    }
}
