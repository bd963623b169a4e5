// SPDX-License-Identifier: Apache-2.0
//! Maps that are full.

use aya::maps::MapError;
use proxy_common::map_names;

use super::Error;

/// What the kernel says of a hash that is full (`htab_map_update_elem`), and of a trie (`trie_update_elem`).
const FULL: [i32; 2] = [nix::libc::E2BIG, nix::libc::ENOSPC];

/// What has gone wrong with a map.
pub(super) fn map_error(map: String, error: MapError) -> Error {
    match &error {
        MapError::SyscallError(syscall)
            if syscall.io_error.raw_os_error().is_some_and(|code| FULL.contains(&code)) =>
        {
            let flag = flag(&map);
            Error::Full { map, flag }
        }
        _ => Error::Map(map, error),
    }
}

/// The flag that says how large a map is.
fn flag(map: &str) -> Option<&'static str> {
    let base = map.rsplit_once("_V").map_or(map, |(base, _)| base);
    match base {
        map_names::FRONTENDS => Some("--max-frontends"),
        map_names::NAMES => Some("--max-services"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya::sys::SyscallError;

    use super::*;

    #[test]
    fn a_map_that_is_full_says_how_it_gets_larger() {
        let told = |map: &str, code| {
            let io_error = io::Error::from_raw_os_error(code);
            let error = SyscallError { call: "bpf_map_update_elem", io_error };
            map_error(map.to_owned(), MapError::SyscallError(error)).to_string()
        };
        let hash = told("FRONTENDS_V6", nix::libc::E2BIG);
        assert_eq!(hash, "map FRONTENDS_V6 is full: --max-frontends makes it larger");
        assert_eq!(told("CIDRS_V4", nix::libc::ENOSPC), "map CIDRS_V4 is full");
        assert_eq!(told("FRONTENDS_V6", nix::libc::EPERM), "map FRONTENDS_V6");
    }
}
