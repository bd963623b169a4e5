// SPDX-License-Identifier: Apache-2.0
//! Carrying out the reconciler's operations on the kernel's tables.

use proxy_common::Family;

use super::{Error, Tables};
use crate::dataplane::{Contents, Dataplane, Failure, Op, Refusal, SetKind};

impl<F: Family> Dataplane<F> for Tables<F> {
    type Error = Error;

    fn apply(&mut self, ops: &[Op<F>]) -> Result<(), Failure<Error>> {
        for (applied, op) in ops.iter().enumerate() {
            carry_out(self, op).map_err(|error| Failure { applied, error })?;
        }
        Ok(())
    }

    fn take_over(&mut self) -> Result<Contents<F>, Error> {
        Self::take_over(self)
    }

    fn rest(&mut self) {
        Self::rest(self);
    }
}

impl Refusal for Error {
    fn table(&self) -> Option<&str> {
        match self {
            Self::Map(map, _) | Self::Full { map, .. } => Some(map),
            Self::Row { table, .. } => Some(table),
            _ => None,
        }
    }

    fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

fn carry_out<F: Family>(tables: &mut Tables<F>, op: &Op<F>) -> Result<(), Error> {
    match op {
        Op::PutBackend { id, backend } | Op::RetireBackend { id, backend } => {
            tables.put_backend(*id, *backend)
        }
        Op::SetStanding { id, backend } => tables.put_standing(*id, backend.standing),
        Op::PutSlots { start, ids } => tables.put_slots(*start, ids),
        Op::PutSet { index, which: SetKind::Cluster, set } => tables.publish_cluster(*index, *set),
        Op::PutSet { index, which: SetKind::Local, set } => tables.publish_local(*index, *set),
        Op::PutPolicy { index, policy } => tables.publish_policy(*index, *policy),
        Op::PutSourceRange { index, range } => tables.put_source_range(*index, *range),
        Op::RemoveSourceRange { index, range } => tables.remove_source_range(*index, *range),
        Op::PutName { index, name } => tables.put_name(*index, **name),
        Op::PutFrontend { key, frontend } => tables.put_frontend(*key, *frontend),
        Op::RemoveFrontend { key } => tables.remove_frontend(key),
        Op::PutServiceCidr { prefix } => tables.put_service_cidr(*prefix),
        Op::RemoveServiceCidr { prefix } => tables.remove_service_cidr(*prefix),
        Op::PutShortfall { row, shortfall } => tables.put_shortfall(*row, **shortfall),
        Op::RemoveShortfall { row } => tables.remove_shortfall(*row),
        Op::RemoveService { index } => {
            tables.clear_service(*index)?;
            tables.remove_name(*index)
        }
    }
}
