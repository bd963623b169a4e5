// SPDX-License-Identifier: Apache-2.0
//! Errors in one line.

use std::error::Error;

/// An error and what it comes from, in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let sources = std::iter::successors(error.source(), |&error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

#[cfg(test)]
mod tests {
    use std::{io, path::PathBuf};

    use super::chain;
    use crate::bpf::Error;

    #[test]
    fn an_error_is_told_with_what_it_comes_from() {
        let source = io::Error::other("no space");
        let error = Error::PinDirectory(PathBuf::from("/x"), source);
        assert_eq!(chain(&error), "cannot use the pin root /x: no space");
    }
}
