// SPDX-License-Identifier: Apache-2.0
//! The directories of one agent's pins, which nobody else touches as long as it runs. What is pinned outlives the
//! agent, and the next one adopts it:
//!
//! ```text
//! <pin root>/v<ABI version>/maps/NAME       shared by all programs, of before and of now
//! <pin root>/v<ABI version>/programs/NAME   for people and other tools
//! <pin root>/v<ABI version>/links/NAME      what keeps programs where they are
//! ```

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{Error, lock::lock, version::Version};

/// Where the maps of this ABI are pinned below a pin root.
#[must_use]
pub fn map_directory(pin_root: &Path) -> PathBuf {
    Version::own(pin_root).maps()
}

/// A pin root that is this agent's. Dropped before it is said that its pins are to stay, it is left as it was found.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    own: Version,
    /// What tells other agents that the pin root is taken: its lock goes with the process.
    _lock: File,
    /// What was pinned before, of the own version.
    found: BTreeSet<PathBuf>,
    are_kept: bool,
}

impl Pins {
    /// Takes the pin root, and makes it if need be; nothing if another agent has it. What is pinned there stays.
    ///
    /// # Errors
    ///
    /// If it cannot be made, locked or read.
    pub fn try_claim(pin_root: &Path) -> Result<Option<Self>, Error> {
        let error = |error| Error::PinDirectory(pin_root.to_owned(), error);
        let Some(lock) = lock(pin_root).map_err(error)? else { return Ok(None) };
        let own = Version::own(pin_root);
        let found = own.pins().map_err(error)?.into_iter().flatten().collect();
        Ok(Some(Self { root: pin_root.to_owned(), own, _lock: lock, found, are_kept: false }))
    }

    /// The same, if nobody else may have it.
    ///
    /// # Errors
    ///
    /// [`Error::PinRootTaken`] if another agent has it; else as [`Pins::try_claim`].
    pub fn claim(pin_root: &Path) -> Result<Self, Error> {
        Self::try_claim(pin_root)?.ok_or_else(|| Error::PinRootTaken(pin_root.to_owned()))
    }

    /// Whether an agent of whichever version has left something there.
    ///
    /// # Errors
    ///
    /// If the pin root cannot be read.
    pub fn has_former(&self) -> Result<bool, Error> {
        let versions = Version::all(&self.root).map_err(self.error())?;
        for version in versions {
            if version.pins().map_err(self.error())?.iter().any(|pins| !pins.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The other versions that have pinned something.
    pub(super) fn others(&self) -> Result<Vec<Version>, Error> {
        let mut versions = Version::all(&self.root).map_err(self.error())?;
        versions.retain(|version| *version != self.own);
        Ok(versions)
    }

    /// The pin root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The pins of this version.
    pub(super) const fn own(&self) -> &Version {
        &self.own
    }

    /// Whether this was pinned before.
    pub(super) fn has_found(&self, path: &Path) -> bool {
        self.found.contains(path)
    }

    /// Makes the directories.
    pub(super) fn make(&self) -> Result<(), Error> {
        self.own.make_directories().map_err(self.error())
    }

    /// Has the pins outlive this.
    pub(super) const fn keep(&mut self) {
        self.are_kept = true;
    }

    /// Removes what has been pinned since, and the directories that become empty by it.
    fn restore(&self) -> io::Result<()> {
        for pin in self.own.pins()?.into_iter().flatten() {
            if !self.found.contains(&pin) {
                let _: bool = remove_if_there(&pin)?;
            }
        }
        self.own.remove_directories();
        Ok(())
    }

    fn error(&self) -> impl Fn(io::Error) -> Error {
        let root = self.root.clone();
        move |error| Error::PinDirectory(root.clone(), error)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if !self.are_kept
            && let Err(error) = self.restore()
        {
            let directory = self.root.display();
            tracing::warn!(%directory, %error, "cannot remove what has been pinned");
        }
    }
}

/// The names in a directory, which need not be there.
pub(super) fn entries(directory: &Path) -> io::Result<Vec<OsString>> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.file_name())).collect(),
    }
}

/// Removes a file, and says whether it was there.
pub(super) fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_goes_and_what_was_found_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("root");
        let pins = Pins::claim(&root).unwrap();
        assert!(!pins.has_former().unwrap());
        pins.make().unwrap();
        fs::write(pins.own().maps().join("own"), "").unwrap();
        drop(pins);
        assert!(!root.exists() && temporary.path().exists());

        let mut pins = Pins::claim(&root).unwrap();
        pins.make().unwrap();
        let found = map_directory(&root).join("found");
        fs::write(&found, "").unwrap();
        pins.keep();
        drop(pins);
        let pins = Pins::claim(&root).unwrap();
        assert!(pins.has_former().unwrap() && pins.has_found(&found));
        let new = pins.own().programs().join("new");
        fs::write(&new, "").unwrap();
        drop(pins);
        assert!(found.exists() && !new.exists());
    }

    #[test]
    fn a_pin_root_has_one_owner_who_is_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let owner = Pins::claim(temporary.path()).unwrap();
        owner.make().unwrap();
        let pin = owner.own().maps().join("own");
        fs::write(&pin, "").unwrap();
        assert!(Pins::try_claim(temporary.path()).unwrap().is_none());
        let error = Pins::claim(temporary.path()).unwrap_err();
        assert!(matches!(error, Error::PinRootTaken(_)), "{error}");
        assert!(pin.exists());
        drop(owner);
        drop(Pins::claim(temporary.path()).unwrap());
    }
}
