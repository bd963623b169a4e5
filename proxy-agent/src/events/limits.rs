// SPDX-License-Identifier: Apache-2.0
//! How long texts in Events may be: `pkg/apis/core/validation/events.go` of Kubernetes, in bytes.

/// The longest `note`.
pub(super) const NOTE: usize = 1024;
/// The longest `reportingInstance`. Names of Nodes may be longer.
pub(super) const REPORTING_INSTANCE: usize = 128;

/// What shows that something is missing.
const ELLIPSIS: &str = " ...";

/// The text, or as much of its beginning as the API takes.
pub(super) fn fit(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit - ELLIPSIS.len());
    format!("{}{ELLIPSIS}", &text[..end])
}

/// The name, or as much of its beginning as the API takes.
pub(super) fn fit_name(name: &str, limit: usize) -> &str {
    &name[..name.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(fit("short", 5), "short");
        assert_eq!(fit("ninebytes", 8), "nine ...");
        assert_eq!(fit("näin kuin", 6), "n ...");
        assert_eq!(fit_name("node", 128), "node");
        assert_eq!(fit_name("näin", 2), "n");
    }
}
