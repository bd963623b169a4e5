// SPDX-License-Identifier: Apache-2.0
//! Maps whose keys and values are bytes: those of another version of the ABI.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    path::Path,
};

use aya::maps::{MapData, MapInfo};
use aya_obj::generated::bpf_cmd::{self, BPF_MAP_DELETE_ELEM, BPF_MAP_LOOKUP_AND_DELETE_ELEM};
use nix::libc;

use super::{
    Error,
    link::bpf,
    lookup_batch::{Room, look_up},
};

/// How many entries are read at once, at first: more than a bucket has, and no more memory than a thread's stack.
const ENTRIES: usize = 1 << 9;

/// What the commands on one element take.
#[repr(C)]
struct Element {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A map, opened from its pin.
#[derive(Debug)]
pub(super) struct RawMap {
    name: String,
    map: MapData,
    key_size: usize,
    value_size: usize,
}

impl RawMap {
    /// Opens the map of this name that is pinned in a directory.
    ///
    /// # Errors
    ///
    /// If it is not there or cannot be opened.
    pub(super) fn open(directory: &Path, name: &str) -> Result<Self, Error> {
        let error = |error| Error::Map(name.to_owned(), error);
        let path = directory.join(name);
        let info = MapInfo::from_pin(&path).map_err(error)?;
        Ok(Self {
            name: name.to_owned(),
            map: MapData::from_pin(path).map_err(error)?,
            key_size: info.key_size() as usize,
            value_size: info.value_size() as usize,
        })
    }

    /// The bytes of a value.
    pub(super) const fn value_size(&self) -> usize {
        self.value_size
    }

    /// Whether it has no entry.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(super) fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.keys(|_, _| true)?.is_empty())
    }

    /// Calls a function with each key and value, or with the first error that it returns. Entries that come meanwhile
    /// may be missed.
    ///
    /// # Errors
    ///
    /// That of the function, or if the map cannot be read.
    pub(super) fn for_each(
        &self,
        mut with: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut batch = Batch::default();
        let (mut next, mut room) = (None, ENTRIES);
        loop {
            let is_last = match self.read(&mut batch, &mut next, room) {
                Ok(is_last) => is_last,
                // A bucket has more.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    room *= 2;
                    continue;
                }
                Err(error) => return Err(Error::Batch(self.name.clone(), error)),
            };
            let values = batch.values.chunks_exact(self.value_size);
            for (key, value) in batch.keys.chunks_exact(self.key_size).zip(values) {
                with(key, value)?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Removes those of its entries that are to be removed; one that is gone meanwhile is as good.
    ///
    /// # Errors
    ///
    /// If it cannot be read or written.
    pub(super) fn remove(&self, is_unwanted: impl Fn(&[u8], &[u8]) -> bool) -> Result<(), Error> {
        let keys = self.keys(is_unwanted)?;
        for key in keys.chunks_exact(self.key_size) {
            let _: bool = self.on_element(BPF_MAP_DELETE_ELEM, key, None)?;
        }
        Ok(())
    }

    /// Removes those entries of a hash that are to be removed, and calls a function with each key and the last value
    /// that it had.
    ///
    /// # Errors
    ///
    /// That of the function, or if the map cannot be read or written.
    pub(super) fn take_each(
        &self,
        is_unwanted: impl Fn(&[u8], &[u8]) -> bool,
        mut with: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut value = vec![0; self.value_size];
        for key in self.keys(is_unwanted)?.chunks_exact(self.key_size) {
            if self.on_element(BPF_MAP_LOOKUP_AND_DELETE_ELEM, key, Some(&mut value))? {
                with(key, &value)?;
            }
        }
        Ok(())
    }

    /// The keys of those entries of which this is true, one after the other.
    fn keys(&self, is_among: impl Fn(&[u8], &[u8]) -> bool) -> Result<Vec<u8>, Error> {
        let mut keys = Vec::new();
        self.for_each(|key, value| {
            if is_among(key, value) {
                keys.extend_from_slice(key);
            }
            Ok(())
        })?;
        Ok(keys)
    }

    /// A command on one element, which may write its value; says whether it is there.
    fn on_element(
        &self,
        command: bpf_cmd,
        key: &[u8],
        value: Option<&mut Vec<u8>>,
    ) -> Result<bool, Error> {
        let mut element = Element {
            map: self.descriptor(),
            reserved: 0,
            key: key.as_ptr() as u64,
            value: value.map_or(0, |value| value.as_mut_ptr() as u64),
            flags: 0,
        };
        match bpf(command, &mut element) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::Batch(self.name.clone(), error)),
        }
    }

    /// Reads the next batch; says whether it was the last one.
    fn read(&self, batch: &mut Batch, next: &mut Option<Vec<u8>>, room: usize) -> io::Result<bool> {
        batch.keys.resize(room * self.key_size, 0);
        batch.values.resize(room * self.value_size, 0);
        // The number of a bucket, or a key.
        let mut begin = vec![0_u8; self.key_size.max(size_of::<u32>())];
        let room = Room {
            keys: batch.keys.as_mut_ptr(),
            values: batch.values.as_mut_ptr(),
            entries: room,
        };
        // SAFETY: there is room for so many keys and values, of the sizes that the map has.
        let looked = unsafe { look_up(self.map.fd().as_fd(), next.as_deref(), &mut begin, &room) }?;
        batch.keys.truncate(looked.entries * self.key_size);
        batch.values.truncate(looked.entries * self.value_size);
        *next = Some(begin);
        Ok(looked.is_last)
    }

    fn descriptor(&self) -> u32 {
        let descriptor: BorrowedFd<'_> = self.map.fd().as_fd();
        descriptor.as_raw_fd().cast_unsigned()
    }
}

/// Keys and values, one after the other.
#[derive(Debug, Default)]
struct Batch {
    keys: Vec<u8>,
    values: Vec<u8>,
}
