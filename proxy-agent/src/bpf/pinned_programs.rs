// SPDX-License-Identifier: Apache-2.0
//! Programs, pinned for people and other tools: nothing here depends on the pins, but that guards are known by them.

use std::{collections::BTreeSet, path::Path};

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
    ids(directory, [UPLINK_EGRESS, L3_UPLINK_EGRESS])
}

/// The ids of all programs that are pinned in a directory. Those that cannot be asked are not among them.
pub(super) fn programs(directory: &Path) -> BTreeSet<u32> {
    ids(directory, entries(directory).unwrap_or_default())
}

fn ids(directory: &Path, names: impl IntoIterator<Item: AsRef<Path>>) -> BTreeSet<u32> {
    let asked = names.into_iter().map(|name| ProgramInfo::from_pin(directory.join(name)));
    asked.filter_map(|info: Result<_, ProgramError>| info.ok()).map(|info| info.id()).collect()
}

impl Object {
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
