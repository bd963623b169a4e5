// SPDX-License-Identifier: Apache-2.0
//! The control group whose processes are served.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// `CGROUP2_SUPER_MAGIC` of `linux/magic.h`.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// The inode of the root of the hierarchy, wherever it is mounted: the first that kernfs gives.
const ROOT_INODE: u64 = 1;

/// A control group of the cgroup2 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupRoot {
    /// Its directory.
    pub path: PathBuf,
    /// Whether it is the root of the hierarchy, below which all processes are. What a container
    /// sees as its root, in a cgroup namespace of its own, is not.
    pub is_whole: bool,
}

impl CgroupRoot {
    /// The control group of a directory; nothing if it is none of cgroup2, or is hidden below
    /// another mount.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        let file_system = match rustix::fs::statfs(path) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            found => found?,
        };
        if u64::try_from(file_system.f_type) != Ok(CGROUP2_MAGIC) {
            return Ok(None);
        }
        let is_whole = fs::metadata(path)?.ino() == ROOT_INODE;
        Ok(Some(Self { path: path.to_owned(), is_whole }))
    }

    /// Of the directories where cgroup2 is mounted, the root of the hierarchy; or the first, if none
    /// is that.
    ///
    /// # Errors
    ///
    /// If there is none, and one cannot be read.
    pub fn find(mounted: impl IntoIterator<Item = PathBuf>) -> io::Result<Option<Self>> {
        let (mut first, mut unread) = (None, None);
        for path in mounted {
            match Self::at(&path) {
                Ok(Some(root)) if root.is_whole => return Ok(Some(root)),
                Ok(found) => first = first.or(found),
                Err(error) => unread = Some(error),
            }
        }
        match (first, unread) {
            (None, Some(error)) => Err(error),
            (first, _) => Ok(first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_cgroup2_are_control_groups() {
        let temporary = tempfile::tempdir().unwrap();
        assert_eq!(CgroupRoot::at(temporary.path()).unwrap(), None);
        assert_eq!(CgroupRoot::at(&temporary.path().join("none")).unwrap(), None);
        assert_eq!(CgroupRoot::find([temporary.path().to_owned()]).unwrap(), None);
        assert_eq!(CgroupRoot::find([]).unwrap(), None);
    }
}
