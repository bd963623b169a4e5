// SPDX-License-Identifier: Apache-2.0
//! Programs, pinned for people and other tools, and for other agents: by their pins, these know guards and another version's
//! filters.

use std::{collections::BTreeSet, ffi::OsString, path::Path};

use aya::programs::{ProgramError, ProgramInfo};

use super::{
    Error, Object,
    object::{L3_UPLINK_EGRESS, UPLINK_EGRESS},
    pins::{entries, remove_if_there},
};

/// The ids of the programs that are pinned in a directory and hold packets back where they leave the node. Those that
/// cannot be asked are not among them.
#[must_use]
pub fn guard_programs(directory: &Path) -> BTreeSet<u32> {
    let is_guard = |name: &OsString| {
        let name = name.to_str().unwrap_or_default();
        [UPLINK_EGRESS, L3_UPLINK_EGRESS].contains(&name.split(OF_ID).next().unwrap_or_default())
    };
    ids(directory, entries(directory).unwrap_or_default().into_iter().filter(is_guard))
}

/// The ids of all programs that are pinned in a directory. Those that cannot be asked are not among them.
pub(super) fn programs(directory: &Path) -> BTreeSet<u32> {
    ids(directory, entries(directory).unwrap_or_default())
}

/// What is between a program's name and its id where it is pinned before it has the place of the one before.
const OF_ID: char = '-';

fn ids(directory: &Path, names: impl IntoIterator<Item: AsRef<Path>>) -> BTreeSet<u32> {
    let asked = names.into_iter().map(|name| ProgramInfo::from_pin(directory.join(name)));
    asked.filter_map(|info: Result<_, ProgramError>| info.ok()).map(|info| info.id()).collect()
}

impl Object {
    /// Pins a program by its name and id, until all are pinned by their names: between the two, programs of more than one
    /// agent may be on devices, and all are to be known.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it, or it cannot be pinned.
    pub fn pin_beside(&mut self, name: &str) -> Result<(), Error> {
        let error = |error| Error::Program(name.to_owned(), error);
        if self.pinned_programs.contains(name) {
            return Ok(());
        }
        let directory = self.pins.own().programs();
        let program = self.program(name)?;
        let id = program.info().map_err(error)?.id();
        let path = directory.join(format!("{name}{OF_ID}{id}"));
        if path.exists() {
            return Ok(());
        }
        program.pin(&path).map_err(|error| Error::PinProgram(name.to_owned(), error))
    }

    /// Pins the programs that are verified, in the place of those of before; returns the names of those whose pins had
    /// gone.
    ///
    /// # Errors
    ///
    /// If one cannot be pinned.
    pub fn pin_programs(&mut self) -> Result<Vec<String>, Error> {
        let directory = self.pins.own().programs();
        let error = |error| Error::PinDirectory(directory.clone(), error);
        self.pins.make()?;
        let mut again = Vec::new();
        for (name, program) in self.ebpf.programs_mut() {
            if program.fd().is_err() {
                continue;
            }
            let path = directory.join(name);
            if self.pinned_programs.contains(name) {
                if path.exists() {
                    continue;
                }
                again.push(name.to_owned());
            }
            let _: bool = remove_if_there(&path).map_err(error)?;
            program.pin(&path).map_err(|error| Error::PinProgram(name.to_owned(), error))?;
            let _: bool = self.pinned_programs.insert(name.to_owned());
        }
        for name in entries(&directory).map_err(error)? {
            if !name.to_str().is_some_and(|name| self.pinned_programs.contains(name)) {
                let _: bool = remove_if_there(&directory.join(name)).map_err(error)?;
            }
        }
        Ok(again)
    }
}
