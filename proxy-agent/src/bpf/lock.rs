// SPDX-License-Identifier: Apache-2.0
//! What tells agents with the same pin root that they are several.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// How often the pin root is made again when another agent, which ends, removes it meanwhile.
const ATTEMPTS: usize = 10;

/// Locks a directory, which is made if need be; nothing if somebody else has locked it.
pub(super) fn lock(directory: &Path) -> io::Result<Option<File>> {
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
