// SPDX-License-Identifier: Apache-2.0
//! Arrays that the agent writes through memory (`BPF_F_MMAPABLE`): no system call per element, and
//! words that are stored whole.
//!
//! The kernel puts all pages of a mapping into the page tables at once (`remap_vmalloc_range`), and
//! counts them as memory of the process. So an array is mapped piece by piece, when a row of the piece
//! is first used: what a table could hold at most costs nothing. Changes are of rows anywhere, and would have
//! all of a table mapped in the end: for each piece that is mapped to be written, another one is unmapped once
//! there are a few. After much work none stays mapped.

use std::{
    collections::VecDeque,
    marker::PhantomData,
    mem,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        OnceLock,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
};

use aya::{Pod, maps::MapData};
use memmap2::{MmapOptions, MmapRaw};
use proxy_common::frontend_filter::FILTER_ROWS;

use super::Error;

/// How many rows are mapped together. As elements are multiples of eight bytes, that is a multiple of
/// any size of pages.
const WINDOW: u32 = 1 << 12;

/// How many pieces stay mapped after they have been written, those of last: as many as a family's filter of
/// frontends has, of which any may be next.
const KEPT: usize = (FILTER_ROWS / WINDOW) as usize;

/// A BPF array of `T`, in memory.
#[derive(Debug)]
pub(super) struct MappedArray<T> {
    name: String,
    /// The pieces of [`WINDOW`] rows, those that are mapped.
    windows: Vec<OnceLock<MmapRaw>>,
    /// Which of them were mapped to be written, the last one at the end.
    written: VecDeque<u32>,
    rows: u32,
    element: PhantomData<T>,
    /// What the pieces are mapped of.
    map: MapData,
}

impl<T: Pod> MappedArray<T> {
    /// The distance between elements: the kernel rounds them up to eight bytes.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// An array that is mapped as it is used.
    pub(super) fn new(name: &str, map: MapData) -> Result<Self, Error> {
        let rows = map.info().map_err(|error| Error::Map(name.to_owned(), error))?.max_entries();
        let windows = (0..rows.div_ceil(WINDOW)).map(|_| OnceLock::new()).collect();
        let (name, written) = (name.to_owned(), VecDeque::new());
        Ok(Self { name, windows, written, rows, element: PhantomData, map })
    }

    /// The piece with this number.
    fn window(&self, number: u32) -> Result<&MmapRaw, Error> {
        let window = &self.windows[number as usize];
        if let Some(mapped) = window.get() {
            return Ok(mapped);
        }
        let first = number * WINDOW;
        let rows = WINDOW.min(self.rows - first);
        let mapped = MmapOptions::new()
            .offset(u64::from(first) * Self::STRIDE as u64)
            .len(Self::STRIDE * rows as usize)
            .map_raw(self.map.fd().as_fd().as_raw_fd())
            .map_err(|error| Error::Mmap(self.name.clone(), error))?;
        Ok(window.get_or_init(|| mapped))
    }

    /// Unmaps all pieces.
    pub(super) fn rest(&mut self) {
        self.windows.fill_with(OnceLock::new);
        self.written.clear();
    }

    /// A row that is to be written.
    fn row_mut(&mut self, row: u32) -> Result<*mut u64, Error> {
        let number = row / WINDOW;
        if self.windows.get(number as usize).is_some_and(|window| window.get().is_none()) {
            if self.written.len() >= KEPT
                && let Some(first) = self.written.pop_front()
            {
                self.windows[first as usize] = OnceLock::new();
            }
            self.written.push_back(number);
        }
        self.row(row)
    }

    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
    fn row(&self, row: u32) -> Result<*mut u64, Error> {
        if row >= self.rows {
            return Err(Error::Row { table: self.name.clone(), row });
        }
        let words = self.window(row / WINDOW)?.as_mut_ptr().cast::<u64>();
        let row = (row % WINDOW) as usize;
        // SAFETY: within the piece, which has all rows up to the next one or to the last row.
        Ok(unsafe { words.add(row * Self::STRIDE / size_of::<u64>()) })
    }

    /// Writes an element that no program can be reading.
    pub(super) fn put(&mut self, row: u32, value: T) -> Result<(), Error> {
        let row = self.row_mut(row)?;
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

    /// How many elements there are.
    pub(super) const fn rows(&self) -> u32 {
        self.rows
    }

    /// All elements.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<(u32, T), Error>> + '_ {
        (0..self.rows).map(|row| Ok((row, self.get(row)?)))
    }

    /// Publishes a word of an element: programs see all that was written before it.
    pub(super) fn publish(&mut self, row: u32, word: usize, value: u64) -> Result<(), Error> {
        assert!((word + 1) * size_of::<u64>() <= size_of::<T>(), "a word of the element");
        let row = self.row_mut(row)?;
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
        let row = self.row_mut(row)?;
        // SAFETY: of one size, and any two bytes are a number.
        let bits: u16 = unsafe { mem::transmute_copy(&part) };
        // SAFETY: within the element, and aligned, since the element is to eight bytes; only this
        // process writes.
        let part = unsafe { &*row.cast::<AtomicU16>().byte_add(offset) };
        part.store(bits, Ordering::Release);
        Ok(())
    }
}
