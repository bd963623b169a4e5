// SPDX-License-Identifier: Apache-2.0
//! What the tables hold that another agent has left.

use aya::maps::lpm_trie::Key;
use proxy_common::{
    Family,
    backend::{Backend, BackendId},
    frontend::ServiceIndex,
    service::Policy,
    service_cidr::Prefix,
};

use super::{super::Error, Tables, prefixes::cidr_error};
use crate::dataplane::{Contents, Rows};

impl<F: Family> Tables<F> {
    /// Takes over what the tables hold, and tells of it: once, before anything is written.
    ///
    /// # Errors
    ///
    /// If a table cannot be read, or the filter of frontends not be written.
    pub fn take_over(&mut self) -> Result<Contents<F>, Error> {
        let frontends = self.frontends.entries().collect::<Result<Vec<_>, _>>()?;
        self.frontends.take_over(frontends.iter().map(|(key, _)| key))?;
        let services = self.names.entries().map(|entry| {
            let (index, name) = entry?;
            Ok((index, name, self.services.get(index.0)?))
        });
        let services = services.collect::<Result<Vec<_>, Error>>()?;
        let removed = self.services.iter().filter_map(|row| match row {
            Ok((index, row)) => row.policy.has(Policy::GONE).then_some(Ok(ServiceIndex(index))),
            Err(error) => Some(Err(error)),
        });
        let removed = removed.collect::<Result<Vec<_>, _>>()?;
        // Without a Service port that has or had them there are none: these tables are the largest.
        let (slots, backends) = if services.is_empty() && removed.is_empty() {
            (Vec::new(), Vec::new())
        } else {
            (self.written_slots()?, self.written_backends()?)
        };
        let cidr = |key: Key<F::Addr>| Prefix { length: key.prefix_len(), address: key.data() };
        let cidrs = self.service_cidrs.keys().map(|key| key.map(cidr).map_err(cidr_error::<F>));
        Ok(Contents {
            rows: Rows::of_tables(self.services.rows(), self.slots.rows(), self.backends.rows()),
            services,
            removed,
            slots,
            backends,
            frontends,
            source_ranges: self.source_ranges().collect::<Result<_, _>>()?,
            service_cidrs: cidrs.collect::<Result<_, _>>()?,
            shortfalls: self
                .shortfalls()
                .map(|entry| entry.map(|(row, _)| row))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The slots that are not all zeros.
    fn written_slots(&self) -> Result<Vec<(u32, BackendId)>, Error> {
        let slots = self.slots.iter();
        slots.filter(|slot| !matches!(slot, Ok((_, BackendId::NONE)))).collect()
    }

    /// The backends that have had a generation.
    fn written_backends(&self) -> Result<Vec<(BackendId, Backend<F>)>, Error> {
        let is_written = |row: &Result<(u32, Backend<F>), _>| {
            row.as_ref().map_or(true, |(_, backend)| backend.generation != 0)
        };
        let written = self.backends.iter().filter(is_written);
        written.map(|row| row.map(|(id, backend)| (BackendId(id), backend))).collect()
    }
}
