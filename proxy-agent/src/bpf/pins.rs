// SPDX-License-Identifier: Apache-2.0
//! The directory of one agent's pins: nobody else's as long as the agent runs, empty when it
//! starts, and gone when it ends.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use proxy_common::ABI_VERSION;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::Error;

/// How often the pin root is made again when another agent, which ends, removes it meanwhile.
const ATTEMPTS: usize = 10;

/// Where the maps of this ABI are pinned below a pin root.
#[must_use]
pub fn map_directory(pin_root: &Path) -> PathBuf {
    pin_root.join(format!("v{ABI_VERSION}")).join("maps")
}

/// A pin root that is this agent's. Dropped, the pins go.
#[derive(Debug)]
pub(super) struct Pins {
    directory: PathBuf,
    /// What tells other agents that the pin root is taken: its lock goes with the process.
    _lock: File,
    removed: bool,
}

impl Pins {
    /// Takes the pin root, makes it if need be, and removes the pins that an agent has left which
    /// could not do so itself. Programs that it left on devices keep its maps until they go too.
    ///
    /// # Errors
    ///
    /// [`Error::PinRootTaken`] if another agent has it; else if something cannot be made or
    /// removed.
    pub(super) fn claim(pin_root: &Path) -> Result<Self, Error> {
        let error = |error| Error::PinDirectory(pin_root.to_owned(), error);
        let lock = lock(pin_root).map_err(error)?;
        let lock = lock.ok_or_else(|| Error::PinRootTaken(pin_root.to_owned()))?;
        let pins = Self { directory: map_directory(pin_root), _lock: lock, removed: false };
        remove_files(&pins.directory).map_err(error)?;
        fs::create_dir_all(&pins.directory).map_err(error)?;
        Ok(pins)
    }

    /// Where the maps are pinned.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Removes the pins, and the directories that become empty by it.
    pub(super) fn remove(&mut self) -> io::Result<()> {
        if self.removed {
            return Ok(());
        }
        remove_files(&self.directory)?;
        self.removed = true;
        // Another version's maps may be there, or the pin root may be a mount point.
        for directory in self.directory.ancestors().take(3) {
            let _: io::Result<()> = fs::remove_dir(directory);
        }
        Ok(())
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            let directory = self.directory.display();
            tracing::warn!(%directory, %error, "cannot remove the pinned maps");
        }
    }
}

/// Locks a directory, which is made if need be; nothing if somebody else has locked it.
fn lock(directory: &Path) -> io::Result<Option<File>> {
    for _ in 0..ATTEMPTS {
        fs::create_dir_all(directory)?;
        let file = match File::open(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            locked => locked?,
        }
        // It may have been removed, and made anew by a third, before it was locked.
        let found = fs::metadata(directory);
        if found.is_ok_and(|found| file.metadata().is_ok_and(|own| own.ino() == found.ino())) {
            return Ok(Some(file));
        }
    }
    Err(io::Error::other("it is removed again and again"))
}

/// Removes the files in a directory, which need not be there.
fn remove_files(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_goes_first_and_the_rest_at_the_end() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("root");
        let directory = map_directory(&root);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("left"), "").unwrap();
        let pins = Pins::claim(&root).unwrap();
        assert!(!directory.join("left").exists());
        fs::write(pins.directory().join("own"), "").unwrap();
        drop(pins);
        assert!(!root.exists() && temporary.path().exists());
    }

    #[test]
    fn a_pin_root_has_one_owner_who_is_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let owner = Pins::claim(temporary.path()).unwrap();
        let pin = owner.directory().join("own");
        fs::write(&pin, "").unwrap();
        let error = Pins::claim(temporary.path()).unwrap_err();
        assert!(matches!(error, Error::PinRootTaken(_)), "{error}");
        assert!(pin.exists());
        drop(owner);
        drop(Pins::claim(temporary.path()).unwrap());
    }
}
