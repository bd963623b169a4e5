// SPDX-License-Identifier: Apache-2.0
//! Listings on the standard output: tables for people, and JSON.

use std::io::{self, ErrorKind, Write as _};

use anyhow::Context as _;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::cli::Output;

/// A row of a listing: the fields of JSON, and the cells of the table.
pub(crate) trait Row: Serialize {
    /// The table's head.
    const HEAD: &'static [&'static str];

    /// The cells below it.
    fn cells(&self) -> Vec<String>;
}

/// Prints rows.
///
/// # Errors
///
/// If they cannot be written, but not because nobody reads any more.
pub(crate) fn write<R: Row>(output: Output, rows: &[R]) -> anyhow::Result<()> {
    let text = match output {
        Output::Json => serde_json::to_string_pretty(rows)?,
        Output::Table => {
            let mut table = Table::new();
            let _: &mut Table = table.load_preset(presets::NOTHING).set_header(R::HEAD);
            for row in rows {
                let _: &mut Table = table.add_row(row.cells());
            }
            table.to_string()
        }
    };
    match writeln!(io::stdout().lock(), "{text}") {
        // Whoever reads it has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to the standard output"),
    }
}
