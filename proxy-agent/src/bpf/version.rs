// SPDX-License-Identifier: Apache-2.0
//! What an agent of one ABI version has pinned.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use proxy_common::ABI_VERSION;

use super::{
    pinned_links::Links,
    pinned_programs::programs,
    pins::{entries, remove_if_there},
};

/// What is pinned of a version, by its directory.
const MAPS: &str = "maps";
const PROGRAMS: &str = "programs";
const LINKS: &str = "links";

/// The pins of one ABI version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(PathBuf);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.file_name().unwrap_or_default().display().fmt(f)
    }
}

impl Version {
    /// This agent's.
    pub(super) fn own(pin_root: &Path) -> Self {
        Self(pin_root.join(format!("v{ABI_VERSION}")))
    }

    /// All that are below a pin root, which need not be there.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn all(pin_root: &Path) -> io::Result<Vec<Self>> {
        let names = entries(pin_root)?;
        let is_version = |name: &OsString| {
            let number = name.to_str().and_then(|name| name.strip_prefix('v'));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        Ok(names.into_iter().filter(is_version).map(|name| Self(pin_root.join(name))).collect())
    }

    /// Whether it is another one than this agent's, and has tables below this pin root.
    #[must_use]
    pub fn is_other(&self, pin_root: &Path) -> bool {
        *self != Self::own(pin_root) && self.maps().exists()
    }

    /// Where its maps are.
    pub(super) fn maps(&self) -> PathBuf {
        self.0.join(MAPS)
    }

    /// Where its programs are.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.0.join(PROGRAMS)
    }

    /// The ids of its programs. Those that cannot be asked are not among them.
    #[must_use]
    pub fn program_ids(&self) -> BTreeSet<u32> {
        programs(&self.programs())
    }

    /// Its links.
    #[must_use]
    pub fn links(&self) -> Links {
        Links::at(self.0.join(LINKS))
    }

    /// Removes its maps, programs and links from the file system, and the directories that become empty by it; says how
    /// many of these there were. Links are detached by it, in no order.
    ///
    /// # Errors
    ///
    /// If something cannot be removed.
    pub fn remove(&self) -> io::Result<[usize; 3]> {
        let mut removed = [0; 3];
        for (removed, pin) in removed.iter_mut().zip(self.pins()?) {
            *removed = pin.len();
            pin.iter().try_for_each(|pin| remove_if_there(pin).map(drop))?;
        }
        self.remove_directories();
        Ok(removed)
    }

    /// What is pinned: maps, programs and links.
    pub(super) fn pins(&self) -> io::Result<[BTreeSet<PathBuf>; 3]> {
        let pins = |kind: &str| -> io::Result<BTreeSet<PathBuf>> {
            let directory = self.0.join(kind);
            Ok(entries(&directory)?.into_iter().map(|name| directory.join(name)).collect())
        };
        Ok([pins(MAPS)?, pins(PROGRAMS)?, pins(LINKS)?])
    }

    pub(super) fn make_directories(&self) -> io::Result<()> {
        [MAPS, PROGRAMS, LINKS].iter().try_for_each(|kind| fs::create_dir_all(self.0.join(kind)))
    }

    /// Those that are not empty stay.
    pub(super) fn remove_directories(&self) {
        for kind in [MAPS, PROGRAMS, LINKS] {
            let _: io::Result<()> = fs::remove_dir(self.0.join(kind));
        }
        // Another version's pins may be there, or the pin root may be a mount point.
        for directory in self.0.ancestors().take(2) {
            let _: io::Result<()> = fs::remove_dir(directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_from_what_else_is_there() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path();
        assert_eq!(Version::all(&root.join("none")).unwrap(), []);
        for name in ["v1", "v", "vx", "w2"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        let versions = Version::all(root).unwrap();
        assert_eq!(versions, [Version(root.join("v1"))]);
        let links = root.join("v1/links");
        fs::create_dir(&links).unwrap();
        fs::write(links.join("3-ingress"), "").unwrap();
        assert_eq!(versions[0].remove().unwrap(), [0, 0, 1]);
        assert!(!root.join("v1").exists() && root.join("w2").exists());
    }
}
