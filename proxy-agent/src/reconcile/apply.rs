// SPDX-License-Identifier: Apache-2.0
//! Has operations carried out.

use proxy_common::Family;

use super::outcome::ReconcileError;
use crate::dataplane::{Dataplane, Op, Refusal as _};

/// Carries out operations, and notes those that were.
pub(super) fn apply<F: Family, D: Dataplane<F>>(
    dataplane: &mut D,
    ops: &[Op<F>],
    mut commit: impl FnMut(&Op<F>),
) -> Result<(), ReconcileError> {
    if ops.is_empty() {
        return Ok(());
    }
    let result = dataplane.apply(ops);
    let applied = match &result {
        Ok(()) => ops.len(),
        Err(failure) => failure.applied,
    };
    ops[..applied].iter().for_each(&mut commit);
    result.map_err(|failure| ReconcileError::Apply {
        verb: ops.get(applied).map_or("write", Op::verb),
        object: ops.get(applied).and_then(Op::object),
        table: failure.error.table().unwrap_or_default().to_owned(),
        is_full: failure.error.is_full(),
        source: Box::new(failure.error),
    })
}
