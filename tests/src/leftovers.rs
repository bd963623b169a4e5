// SPDX-License-Identifier: Apache-2.0

//! Names that say which process made something, and the removal of what
//! killed processes have left behind.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process};

use anyhow::Result;

use crate::{cgroup, netns, scratch};

const PREFIX: &str = "sf-";

/// `sf-<pid>-<number>-<name>`, each time with another number.
///
/// The first call of a process removes what dead processes have left behind,
/// and reports what it cannot remove.
pub(crate) fn unique_name(name: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{number}-{name}", process::id())
}

fn sweep() {
    // Namespaces first: that ends the processes of the rest.
    remove_in(netns::DIRECTORY.as_ref(), netns::remove);
    remove_in(scratch::DIRECTORY.as_ref(), scratch::remove);
    for directory in cgroup::directories() {
        remove_in(&directory, cgroup::remove);
    }
}

fn remove_in(directory: &Path, remove: impl Fn(&Path) -> Result<()>) {
    for path in of_dead_processes(directory) {
        // Another process may be sweeping too.
        if let Err(error) = remove(&path)
            && path.exists()
        {
            eprintln!("could not remove what a killed run has left: {error:#}");
        }
    }
}

fn of_dead_processes(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let owned_by_dead = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(owner).is_some_and(|pid| !is_alive(pid))
    };
    entries.flatten().map(|entry| entry.path()).filter(owned_by_dead).collect()
}

/// The process that made what is called `name`, if it is one of ours.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_read_from_own_names_only() {
        assert_eq!(owner("sf-123-0-web-1"), Some(123));
        assert_eq!(owner("sf-web-1"), None);
        assert_eq!(owner("kind-123"), None);
    }
}
