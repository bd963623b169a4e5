// SPDX-License-Identifier: Apache-2.0
//! Frontends and the filter of their addresses
//! ([ADR 18](../../../docs/adr/0018-a-filter-of-frontends.md)), which may never say that there is no frontend
//! while there is one. So a bit is set before the first frontend with such an address is entered, and cleared
//! after the last of these has been removed.

use std::{collections::HashMap, path::Path};

use proxy_common::{
    Family,
    frontend::{Frontend, FrontendKey},
    frontend_filter::{FILTER_ROWS, FilterBit, FilterRow},
    map_names,
};

use super::{
    Error,
    mapped::MappedArray,
    table::Table,
    tables::{mapped, of_family},
};

/// Where frontends and their filter are.
pub(super) trait Store {
    /// Whose frontends these are.
    type Family: Family;
    /// What can go wrong.
    type Error;

    /// Writes an entry, and says whether it is a new one.
    fn put(
        &mut self,
        key: FrontendKey<Self::Family>,
        frontend: Frontend,
    ) -> Result<bool, Self::Error>;

    /// Removes an entry, and says whether there was one.
    fn remove(&mut self, key: &FrontendKey<Self::Family>) -> Result<bool, Self::Error>;

    /// Whether a bit of the filter is set.
    fn has_bit(&self, bit: FilterBit) -> Result<bool, Self::Error>;

    /// Sets a bit of the filter, or clears it.
    fn write_bit(&mut self, bit: FilterBit, is_set: bool) -> Result<(), Self::Error>;

    /// Has a row of the filter hold this, if it holds anything else.
    fn mend_row(&mut self, number: u32, row: FilterRow) -> Result<(), Self::Error>;
}

/// The frontends of a family. Nobody else writes them, or the filter.
#[derive(Debug)]
pub(super) struct Frontends<S> {
    store: S,
    /// How many entries have an address of a bit, where the bit does not say it: most of those that are set
    /// have one, and those that are not have none.
    counts: HashMap<FilterBit, u32>,
}

impl<S: Store> Frontends<S> {
    /// Those of a store that has none yet.
    fn new(store: S) -> Self {
        Self { store, counts: HashMap::new() }
    }

    /// Takes over entries that are there, all that are: counts them, and clears bits that an agent has left set
    /// which was ended between an entry and its bit.
    ///
    /// # Errors
    ///
    /// If the filter cannot be written.
    pub(super) fn take_over<'a>(
        &mut self,
        keys: impl Iterator<Item = &'a FrontendKey<S::Family>>,
    ) -> Result<(), S::Error> {
        let mut rows = vec![FilterRow::default(); FILTER_ROWS as usize];
        self.counts.clear();
        for key in keys {
            let bit = FilterBit::of(&key.address);
            let row = &mut rows[bit.row() as usize];
            if row.has(bit) {
                *self.counts.entry(bit).or_insert(1) += 1;
            }
            *row = row.with(bit, true);
        }
        let mut numbered = (0..).zip(rows);
        numbered.try_for_each(|(number, row)| self.store.mend_row(number, row))
    }

    /// Writes an entry, new or not.
    ///
    /// # Errors
    ///
    /// If it cannot be written. Then it does not count.
    pub(super) fn put(
        &mut self,
        key: FrontendKey<S::Family>,
        frontend: Frontend,
    ) -> Result<(), S::Error> {
        let bit = FilterBit::of(&key.address);
        self.count(bit)?;
        match self.store.put(key, frontend) {
            Ok(true) => Ok(()),
            // It has been counted when it was new.
            Ok(false) => self.discount(bit),
            Err(error) => {
                // A bit that stays set for nobody costs time only. What has failed first is told.
                let _: Result<(), S::Error> = self.discount(bit);
                Err(error)
            }
        }
    }

    /// Removes an entry; one that is not there is as good.
    ///
    /// # Errors
    ///
    /// If it cannot be removed.
    pub(super) fn remove(&mut self, key: &FrontendKey<S::Family>) -> Result<(), S::Error> {
        if self.store.remove(key)? { self.discount(FilterBit::of(&key.address)) } else { Ok(()) }
    }

    /// How many entries have an address of a bit.
    fn counted(&self, bit: FilterBit) -> Result<u32, S::Error> {
        match self.counts.get(&bit) {
            Some(count) => Ok(*count),
            None => self.store.has_bit(bit).map(u32::from),
        }
    }

    fn note(&mut self, bit: FilterBit, count: u32) {
        let _: Option<u32> = match count {
            1 => self.counts.remove(&bit),
            _ => self.counts.insert(bit, count),
        };
    }

    fn count(&mut self, bit: FilterBit) -> Result<(), S::Error> {
        let count = self.counted(bit)?;
        if count == 0 {
            self.store.write_bit(bit, true)?;
        }
        self.note(bit, count + 1);
        Ok(())
    }

    fn discount(&mut self, bit: FilterBit) -> Result<(), S::Error> {
        let count = self.counted(bit)?.saturating_sub(1);
        if count > 0 {
            self.note(bit, count);
            return Ok(());
        }
        // As long as it is set for nobody, the bit does not say so.
        self.note(bit, 0);
        self.store.write_bit(bit, false)?;
        let _: Option<u32> = self.counts.remove(&bit);
        Ok(())
    }
}

/// The kernel's tables.
#[derive(Debug)]
pub(super) struct Kernel<F: Family> {
    entries: Table<FrontendKey<F>, Frontend>,
    filter: MappedArray<FilterRow>,
}

impl<F: Family> Frontends<Kernel<F>> {
    /// Opens the tables that are pinned in a directory.
    ///
    /// # Errors
    ///
    /// If one is not there or cannot be opened.
    pub(super) fn open(pins: &Path) -> Result<Self, Error> {
        Ok(Self::new(Kernel {
            entries: Table::open(pins, &of_family::<F>(map_names::FRONTENDS))?,
            filter: mapped::<F, _>(pins, map_names::FILTER)?,
        }))
    }

    /// All entries, in no order.
    pub(super) fn entries(
        &self,
    ) -> impl Iterator<Item = Result<(FrontendKey<F>, Frontend), Error>> + '_ {
        self.store.entries.entries()
    }

    /// Gives memory back after much work.
    pub(super) fn rest(&mut self) {
        self.store.filter.rest();
    }
}

impl<F: Family> Store for Kernel<F> {
    type Family = F;
    type Error = Error;

    fn put(&mut self, key: FrontendKey<F>, frontend: Frontend) -> Result<bool, Error> {
        if self.entries.enter(key, frontend)? {
            return Ok(true);
        }
        self.entries.put(key, frontend)?;
        Ok(false)
    }

    fn remove(&mut self, key: &FrontendKey<F>) -> Result<bool, Error> {
        self.entries.take(key)
    }

    fn has_bit(&self, bit: FilterBit) -> Result<bool, Error> {
        Ok(self.filter.get(bit.row())?.has(bit))
    }

    fn write_bit(&mut self, bit: FilterBit, is_set: bool) -> Result<(), Error> {
        let row = self.filter.get(bit.row())?.with(bit, is_set);
        self.filter.publish(bit.row(), 0, row.0)
    }

    fn mend_row(&mut self, number: u32, row: FilterRow) -> Result<(), Error> {
        if self.filter.get(number)? == row {
            return Ok(());
        }
        self.filter.publish(number, 0, row.0)
    }
}

#[cfg(test)]
mod tests;
