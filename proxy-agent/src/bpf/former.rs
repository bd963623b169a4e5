// SPDX-License-Identifier: Apache-2.0
//! Tables that an agent of another version of the ABI has left, and what of them is carried over: which Service port
//! and which endpoint has which row, flows, session affinity, and what sockets were given.
//!
//! The former programs serve until those of this agent do, each with tables of their own. Where both are, the former
//! ones come first. Once they know no frontend any more, whatever begins is for the programs of this agent, and what
//! the former ones know, they go on with; as it stands in both tables, either can. See
//! [ADR 30](../../../docs/adr/0030-from-one-version-to-another.md).

mod flows;
mod tables;

use std::path::Path;

use aya::maps::MapData;
use proxy_common::{
    Family,
    backend::{Backend, Standing},
    frontend::ServiceIndex,
    map_names,
    name::ServiceName,
    service::{Policy, Service},
    socket::{Sent, Translation},
};
use tracing::warn;

use super::{
    Error,
    layouts::Layouts,
    mapped::MappedArray,
    pins::Pins,
    raw_map::RawMap,
    table::Table,
    tables::{mapped, of_family},
    version::Version,
};
use crate::chain::chain;
pub use flows::Pass;
pub use tables::{CarriedOver, FormerTables};

/// The maps of sockets' own storage, which is shared if both versions mean the same by it, and the bytes of their values.
const OF_SOCKETS: [(&str, usize); 2] =
    [(map_names::CONNECTED, size_of::<Translation>()), (map_names::SENT, size_of::<Sent>())];

/// What another version has left, with a description of its tables.
#[derive(Clone, Debug)]
pub struct Former {
    version: Version,
    layouts: Layouts,
}

impl Former {
    /// What agents of other versions have left below a pin root. What has no description is left out, which is said.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn all(pins: &Pins) -> Result<Vec<Self>, Error> {
        let mut found = Vec::new();
        for version in pins.others()? {
            let why = match Layouts::read(&version.maps()) {
                Ok(Some(layouts)) => {
                    found.push(Self { version, layouts });
                    continue;
                }
                Ok(None) => "it has left no description of its tables".to_owned(),
                Err(error) => chain(&error),
            };
            warn!(%version, why, "another version serves until this one does, and nothing goes over");
        }
        Ok(found)
    }

    /// Where it is pinned.
    #[must_use]
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// Whether sockets' storage means the same in both.
    #[must_use]
    pub fn shares_sockets(&self) -> bool {
        let own = Layouts::own();
        OF_SOCKETS.iter().all(|(table, _)| self.layouts.agree_on(&own, table))
    }

    /// Pins the maps of sockets' storage in another directory as well, where they are not there yet.
    pub(super) fn share_sockets(&self, directory: &Path) -> Result<(), Error> {
        let maps = self.version.maps();
        for (name, size) in OF_SOCKETS {
            let (from, to) = (maps.join(name), directory.join(name));
            let is_shared = self.shares_sockets() && from.exists() && !to.exists();
            // Something that nobody describes may be new in it.
            if is_shared && RawMap::open(&maps, name)?.value_size() == size {
                let error = |error| Error::Map(name.to_owned(), error);
                let map = MapData::from_pin(from).map_err(error)?;
                let pinned = map.pin(to);
                pinned.map_err(|error| Error::PinMap(name.to_owned(), error))?;
            }
        }
        Ok(())
    }

    /// Gives Service ports and endpoints the rows that they had, in tables in which nobody has any: to be called before
    /// these are taken over. Where frontends lead to some, nothing is done.
    ///
    /// # Errors
    ///
    /// If a table cannot be read or written.
    pub fn seed<F: Family>(&self, pins: &Path) -> Result<(), Error> {
        let maps = self.version.maps();
        let frontends = RawMap::open(pins, &of_family::<F>(map_names::FRONTENDS))?;
        let mut names =
            Table::<ServiceIndex, ServiceName>::open(pins, &of_family::<F>(map_names::NAMES))?;
        let (Some(to_name), Some(to_service), Some(to_backend)) = (
            self.layouts.values::<ServiceName>(&of_family::<F>(map_names::NAMES)),
            self.layouts.values::<Service>(&of_family::<F>(map_names::SERVICES)),
            self.layouts.values::<Backend<F>>(&of_family::<F>(map_names::BACKENDS)),
        ) else {
            return Ok(());
        };
        // An agent that ended on the way has begun with names.
        if !frontends.is_empty()? {
            return Ok(());
        }
        let mut services = mapped::<F, Service>(pins, map_names::SERVICES)?;
        let mut backends = mapped::<F, Backend<F>>(pins, map_names::BACKENDS)?;
        let open = |base| RawMap::open(&maps, &of_family::<F>(base));
        open(map_names::BACKENDS)?.for_each(|row, value| {
            let Some(former) = to_backend.convert(value).filter(|it| it.generation != 0) else {
                return Ok(());
            };
            // In no set yet.
            let standing = if former.standing.has(Standing::GONE) {
                Standing::GONE
            } else {
                Standing::default()
            };
            put(&mut backends, row, Backend { standing, ..former })
        })?;
        open(map_names::SERVICES)?.for_each(|row, value| {
            let is_gone = to_service.convert(value).is_some_and(|it| it.policy.has(Policy::GONE));
            if is_gone { put(&mut services, row, Service::GONE) } else { Ok(()) }
        })?;
        let rows = services.rows();
        open(map_names::NAMES)?.for_each(|key, value| {
            let index = number(key).filter(|index| *index < rows);
            match (index, to_name.convert(value)) {
                (Some(index), Some(name)) => names.put(ServiceIndex(index), name),
                _ => Ok(()),
            }
        })
    }

    /// The tables of a family from which something goes over to those that are pinned in a directory; nothing if they
    /// cannot be told. From now on, programs take it that the former ones come first.
    ///
    /// # Errors
    ///
    /// If a table cannot be opened.
    pub fn tables<F: Family>(&self, pins: &Path) -> Result<Option<FormerTables<F>>, Error> {
        FormerTables::open(&self.version.maps(), &self.layouts, pins)
    }
}

/// Writes a row of an array, if it has that row.
fn put<T: aya::Pod>(array: &mut MappedArray<T>, row: &[u8], value: T) -> Result<(), Error> {
    match number(row).filter(|row| *row < array.rows()) {
        Some(row) => array.put(row, value),
        None => Ok(()),
    }
}

/// The key of an array, or what else is a number.
fn number(key: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(key.try_into().ok()?))
}
