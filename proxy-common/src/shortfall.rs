// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What of Services is not in the tables, and why: kept beside these, so that whoever reads them sees it without an
//! agent. No program reads it.

use crate::{
    Port, Protocol,
    name::{LABEL, ServiceName, padded},
    pod,
};

/// How many a family's table tells of one by one.
pub const MAX_SHORTFALLS: u32 = 1024;
/// The row that stands for all that have none of their own. Theirs are `1..=MAX_SHORTFALLS`.
pub const OTHERS: u32 = 0;

/// The longest name of a table, in bytes: what the kernel keeps of a map's.
pub const TABLE: usize = 15;
/// The longest message, in bytes.
pub const MESSAGE: usize = 252;

/// Something of a Service that is not in the tables.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// For how many this stands: one, but in the row [`OTHERS`].
    pub count: u32,
    /// Whose it is. Without a port's number it is of all ports; what belongs to no Service has no namespace.
    pub service: ServiceName,
    /// Why.
    pub cause: Cause,
    /// The table that it is missing in, padded with zeros; empty if that is not known.
    pub table: [u8; TABLE],
    /// The same in words, padded with zeros.
    pub message: [u8; MESSAGE],
}

impl Shortfall {
    /// What stands for so many that have no row.
    #[must_use]
    pub const fn others(count: u32) -> Self {
        let service = ServiceName {
            namespace: [0; LABEL],
            name: [0; LABEL],
            port: [0; LABEL],
            protocol: Protocol::ANY,
            number: Port::ANY,
        };
        Self { count, service, cause: Cause::OTHER, table: [0; TABLE], message: [0; MESSAGE] }
    }

    /// One of this Service, in words.
    #[must_use]
    pub fn new(service: ServiceName, cause: Cause, table: &str, message: &str) -> Self {
        Self { count: 1, service, cause, table: padded(table), message: padded(message) }
    }
}

/// Why something is not in a table.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause(u8);

impl Cause {
    /// The kernel has refused it, or what it takes to write it.
    pub const OTHER: Self = Self(0);
    /// The table is full.
    pub const FULL: Self = Self(1);
    /// Another Service has the frontend.
    pub const CONTESTED: Self = Self(2);
}

pod!(Shortfall);

const _: () = assert!(size_of::<Shortfall>() == 4 + size_of::<ServiceName>() + 1 + TABLE + MESSAGE);

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::name::text;

    #[test]
    fn words_survive_and_are_cut_between_characters() {
        let long = "é".repeat(MESSAGE);
        let shortfall =
            Shortfall::new(Shortfall::others(0).service, Cause::FULL, "FRONTENDS_V6", &long);
        assert_eq!(shortfall.count, 1);
        assert_eq!(text(&shortfall.table), Some("FRONTENDS_V6"));
        assert_eq!(text(&shortfall.message).map(str::len), Some(MESSAGE));
        let odd = std::format!("a{long}");
        let message = padded::<MESSAGE>(&odd);
        assert_eq!(text(&message).map(str::len), Some(MESSAGE - 1));
    }
}
