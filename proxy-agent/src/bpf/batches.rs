// SPDX-License-Identifier: Apache-2.0
//! The flows of a family, many with each system call.

use std::{io, marker::PhantomData, os::fd::AsFd as _, path::Path};

use aya::maps::MapData;
use nix::libc;
use proxy_common::{
    Family,
    flow::{Flow, FlowKey},
    map_names,
};

use super::{
    Error,
    lookup_batch::{Room, look_up},
    tables::of_family,
};

/// How many flows are read at once, at first. Kernels that are not preemptible (`preempt=none`, as servers' are) give the
/// processor to nobody else meanwhile: what packets have woken waits for these, each of which is a miss of the cache.
const AT_A_TIME: usize = 1 << 6;

/// The flow table of a family, read in batches.
#[derive(Debug)]
pub struct FlowBatches<F: Family> {
    name: String,
    map: MapData,
    family: PhantomData<fn() -> F>,
}

/// One batch, and where the next one begins.
#[derive(Debug)]
pub struct Batch<F: Family> {
    keys: Vec<FlowKey<F>>,
    values: Vec<Flow<F>>,
    /// Where the next one begins; nothing before the first.
    next: Option<Vec<u8>>,
    is_last: bool,
}

impl<F: Family> Default for Batch<F> {
    fn default() -> Self {
        Self { keys: Vec::new(), values: Vec::new(), next: None, is_last: false }
    }
}

impl<F: Family> Batch<F> {
    /// Its entries.
    pub fn entries(&self) -> impl Iterator<Item = (&FlowKey<F>, &Flow<F>)> {
        self.keys.iter().zip(&self.values)
    }
}

impl<F: Family> FlowBatches<F> {
    /// Opens the table that is pinned in a directory.
    ///
    /// # Errors
    ///
    /// If it is not there or cannot be opened.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        let name = of_family::<F>(map_names::FLOWS);
        let map = MapData::from_pin(pins.join(&name));
        let map = map.map_err(|error| Error::Map(name.clone(), error))?;
        Ok(Self { name, map, family: PhantomData })
    }

    /// Reads the next batch in the place of the last one; says whether there was one. Entries that come meanwhile may
    /// be missed.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it.
    pub fn next(&self, batch: &mut Batch<F>) -> Result<bool, Error> {
        if batch.is_last {
            return Ok(false);
        }
        let mut room = AT_A_TIME.max(batch.keys.capacity());
        loop {
            match self.read(batch, room) {
                Ok(()) => return Ok(true),
                // A bucket has more.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => room *= 2,
                Err(error) => return Err(Error::Batch(self.name.clone(), error)),
            }
        }
    }

    fn read(&self, batch: &mut Batch<F>, room: usize) -> io::Result<()> {
        batch.keys.clear();
        batch.values.clear();
        batch.keys.reserve(room);
        batch.values.reserve(room);
        let mut next = vec![0; size_of::<FlowKey<F>>()];
        let room = Room {
            keys: batch.keys.as_mut_ptr().cast(),
            values: batch.values.as_mut_ptr().cast(),
            entries: room,
        };
        // SAFETY: there is room for so many keys and values, of the sizes that the table was made with.
        let looked =
            unsafe { look_up(self.map.fd().as_fd(), batch.next.as_deref(), &mut next, &room) }?;
        // SAFETY: the kernel has written so many of both, no more than there is room for; any bytes are valid ones.
        unsafe {
            batch.keys.set_len(looked.entries);
            batch.values.set_len(looked.entries);
        }
        batch.is_last = looked.is_last;
        batch.next = Some(next);
        Ok(())
    }
}
