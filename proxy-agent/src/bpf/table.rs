// SPDX-License-Identifier: Apache-2.0
//! A BPF hash that knows its name.

use std::{io, path::Path};

use aya::{
    Pod,
    maps::{HashMap, MapData, MapError},
};

use super::{Error, full::map_error, object::pinned};

/// `BPF_NOEXIST` and `BPF_EXIST` of `linux/bpf.h`.
const BPF_NOEXIST: u64 = 1;
const BPF_EXIST: u64 = 2;

/// A BPF hash with its name, for errors.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    name: String,
    map: HashMap<MapData, K, V>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// Opens a hash from its pin.
    pub(super) fn open(pins: &Path, name: &str) -> Result<Self, Error> {
        let map =
            pinned(pins, name)?.try_into().map_err(|error| Error::Map(name.to_owned(), error))?;
        Ok(Self { name: name.to_owned(), map })
    }

    /// Writes an entry, new or not.
    pub(super) fn put(&mut self, key: K, value: V) -> Result<(), Error> {
        self.map.insert(key, value, 0).map_err(|error| self.error(error))
    }

    /// Writes an entry where there is none; says whether there was none.
    pub(super) fn enter(&mut self, key: K, value: V) -> Result<bool, Error> {
        match self.map.insert(key, value, BPF_NOEXIST) {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::AlreadyExists =>
            {
                Ok(false)
            }
            Err(error) => Err(self.error(error)),
        }
    }

    /// Writes an entry in the place of the one that is there; nothing where there is none.
    pub(super) fn replace(&mut self, key: K, value: V) -> Result<(), Error> {
        match self.map.insert(key, value, BPF_EXIST) {
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            written => written.map_err(|error| self.error(error)),
        }
    }

    /// Reads an entry.
    pub(super) fn get(&self, key: &K) -> Result<Option<V>, Error> {
        match self.map.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Removes a key; one that is not there is as good.
    pub(super) fn remove(&mut self, key: &K) -> Result<(), Error> {
        self.take(key).map(drop)
    }

    /// Removes a key, and says whether it was there.
    pub(super) fn take(&mut self, key: &K) -> Result<bool, Error> {
        match self.map.remove(key) {
            Ok(()) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(false)
            }
            Err(error) => Err(self.error(error)),
        }
    }

    /// Removes all entries but those of which this is true.
    pub(super) fn retain(&mut self, stays: impl Fn(&K, &V) -> bool) -> Result<(), Error> {
        let entries: Vec<_> = self.entries().collect::<Result<_, _>>()?;
        let gone = entries.iter().filter(|(key, value)| !stays(key, value));
        gone.map(|(key, _)| key).try_for_each(|key| self.remove(key))
    }

    /// All entries, in no order.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<(K, V), Error>> + '_ {
        self.map.iter().map(|entry| entry.map_err(|error| self.error(error)))
    }

    fn error(&self, error: MapError) -> Error {
        map_error(self.name.clone(), error)
    }
}
