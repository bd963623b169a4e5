// SPDX-License-Identifier: Apache-2.0

//! Removes what killed processes have left behind.

use std::fs;
use std::path::Path;
use std::sync::Once;

use super::{DIRECTORY, remove};

/// Removes the namespaces of dead processes, at the first call.
///
/// What cannot be removed is reported and left.
pub(super) fn once() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let Ok(entries) = fs::read_dir(DIRECTORY) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(owner);
            if owner.is_some_and(|pid| !is_alive(pid))
                && let Err(error) = remove(&entry.path())
            {
                eprintln!("could not remove a leftover namespace: {error:#}");
            }
        }
    });
}

/// The process that made the namespace `name`, if it is one of ours.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix("sf-")?.split('-').next()?.parse().ok()
}

/// Whether there is a process `pid`.
pub(crate) fn is_alive(pid: u32) -> bool {
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
