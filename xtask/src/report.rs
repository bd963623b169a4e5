// SPDX-License-Identifier: Apache-2.0
//! What a person sees on stderr while a verb works.

use std::{
    fmt::Display,
    io::{IsTerminal as _, stderr},
};

/// Prints what is about to happen, one line.
pub(crate) fn step(message: impl Display) {
    line("1;32", "==>", message);
}

/// Prints something worth knowing that does not stop the work.
pub(crate) fn note(message: impl Display) {
    line("1;33", "note:", message);
}

/// Prints an error with its chain of causes.
pub(crate) fn failure(error: &anyhow::Error) {
    line("1;31", "error:", format_args!("{error:#}"));
}

fn line(colour: &str, mark: &str, message: impl Display) {
    if stderr().is_terminal() {
        eprintln!("\x1b[{colour}m{mark}\x1b[0m {message}");
    } else {
        eprintln!("{mark} {message}");
    }
}
