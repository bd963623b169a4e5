// SPDX-License-Identifier: Apache-2.0
//! Arrays that the agent writes through memory (`BPF_F_MMAPABLE`): no system call per element, and
//! words that are stored whole.

use std::{
    marker::PhantomData,
    mem,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::{AtomicU16, AtomicU64, Ordering},
};

use aya::{Pod, maps::MapData};
use memmap2::{MmapOptions, MmapRaw};

use super::Error;

/// A BPF array of `T`, in memory.
#[derive(Debug)]
pub(super) struct MappedArray<T> {
    name: String,
    memory: MmapRaw,
    rows: u32,
    element: PhantomData<T>,
    /// The map stays open as long as its memory is used.
    _map: MapData,
}

impl<T: Pod> MappedArray<T> {
    /// The distance between elements: the kernel rounds them up to eight bytes.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Maps an array into memory.
    pub(super) fn new(name: &str, map: MapData) -> Result<Self, Error> {
        let rows = map.info().map_err(|error| Error::Map(name.to_owned(), error))?.max_entries();
        let memory = MmapOptions::new()
            .len(Self::STRIDE * rows as usize)
            .map_raw(map.fd().as_fd().as_raw_fd())
            .map_err(|error| Error::Mmap(name.to_owned(), error))?;
        Ok(Self { name: name.to_owned(), memory, rows, element: PhantomData, _map: map })
    }

    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
    fn row(&self, row: u32) -> Result<*mut u64, Error> {
        if row >= self.rows {
            return Err(Error::Row { table: self.name.clone(), row });
        }
        let words = self.memory.as_mut_ptr().cast::<u64>();
        // SAFETY: within the mapping, as just checked.
        Ok(unsafe { words.add(row as usize * Self::STRIDE / size_of::<u64>()) })
    }

    /// Writes an element that no program can be reading.
    pub(super) fn put(&mut self, row: u32, value: T) -> Result<(), Error> {
        let row = self.row(row)?;
        // SAFETY: a whole element of the mapping, which is aligned to a page.
        unsafe { row.cast::<T>().write_volatile(value) };
        Ok(())
    }

    /// Reads an element.
    pub(super) fn get(&self, row: u32) -> Result<T, Error> {
        let row = self.row(row)?;
        // SAFETY: a whole element of the mapping, and any bytes are a valid one.
        Ok(unsafe { row.cast::<T>().read_volatile() })
    }

    /// Publishes a word of an element: programs see all that was written before it.
    pub(super) fn publish(&mut self, row: u32, word: usize, value: u64) -> Result<(), Error> {
        assert!((word + 1) * size_of::<u64>() <= size_of::<T>(), "a word of the element");
        let row = self.row(row)?;
        // SAFETY: within the element, aligned as the element is; only this process writes.
        let word = unsafe { &*row.cast::<AtomicU64>().add(word) };
        word.store(value, Ordering::Release);
        Ok(())
    }

    /// Stores two bytes of an element, whole, while programs may be reading it: they see all that was
    /// written before.
    pub(super) fn store<P: Pod>(&mut self, row: u32, offset: usize, part: P) -> Result<(), Error> {
        const { assert!(size_of::<P>() == size_of::<u16>(), "two bytes") };
        assert!(offset.is_multiple_of(2) && offset + 2 <= size_of::<T>(), "a part of the element");
        let row = self.row(row)?;
        // SAFETY: of one size, and any two bytes are a number.
        let bits: u16 = unsafe { mem::transmute_copy(&part) };
        // SAFETY: within the element, and aligned, since the element is to eight bytes; only this
        // process writes.
        let part = unsafe { &*row.cast::<AtomicU16>().byte_add(offset) };
        part.store(bits, Ordering::Release);
        Ok(())
    }
}
