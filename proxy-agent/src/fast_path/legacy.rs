// SPDX-License-Identifier: Apache-2.0
//! Tables of legacy iptables. The kernel lists which there are; a table's rules it hands out in a
//! format of its own, so that any of these counts.

use std::{fs, io};

use super::{error::ReadError, found::Found};

/// Where the names are, in the calling thread's network namespace.
const NAMES: [(&str, &str); 2] = [
    ("ip", "/proc/thread-self/net/ip_tables_names"),
    ("ip6", "/proc/thread-self/net/ip6_tables_names"),
];

/// The tables that there are.
pub(super) fn tables() -> Result<Vec<Found>, ReadError> {
    let mut found = Vec::new();
    for (family, path) in NAMES {
        match fs::read_to_string(path) {
            Ok(names) => found.extend(named(family, &names)),
            // Without legacy iptables there is no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ReadError::Legacy(path, error)),
        }
    }
    Ok(found)
}

fn named(family: &'static str, names: &str) -> impl Iterator<Item = Found> {
    names.lines().map(move |table| Found::LegacyTable { family, table: table.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tables_count() {
        let found: Vec<_> = named("ip6", "nat\nfilter\n").collect();
        let table = |table: &str| Found::LegacyTable { family: "ip6", table: table.to_owned() };
        assert_eq!(found, [table("nat"), table("filter")]);
        assert_eq!(named("ip", "").count(), 0);
    }
}
