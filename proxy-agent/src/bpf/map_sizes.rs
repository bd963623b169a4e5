// SPDX-License-Identifier: Apache-2.0
//! How much the pinned maps have room for.

use std::path::Path;

use aya::maps::MapInfo;

use super::{Error, pins::entries};

/// The names of the maps that are pinned in a directory, and how many entries each may have.
///
/// # Errors
///
/// If the directory or a map cannot be read.
pub fn map_sizes(pins: &Path) -> Result<Vec<(String, u32)>, Error> {
    let names = entries(pins).map_err(|error| Error::PinDirectory(pins.to_owned(), error))?;
    let names = names.into_iter().filter_map(|name| name.into_string().ok());
    let size = |name: String| match MapInfo::from_pin(pins.join(&name)) {
        Ok(info) => Ok((name, info.max_entries())),
        Err(error) => Err(Error::Map(name, error)),
    };
    names.map(size).collect()
}
