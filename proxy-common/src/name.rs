// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The names of Service ports, kept beside the tables so that whoever reads them sees words.

use crate::pod;

/// The longest name of a Kubernetes object that is a DNS label, in bytes (RFC 1123).
pub const LABEL: usize = 63;

/// Namespace, name and port name of a Service port, each a DNS label padded with zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// The namespace.
    pub namespace: [u8; LABEL],
    /// The Service's name.
    pub name: [u8; LABEL],
    /// The port's name; empty where the Service's only port has none.
    pub port: [u8; LABEL],
    /// The port's protocol.
    pub protocol: crate::Protocol,
    /// The Service port that clients dial.
    pub number: crate::Port,
}

/// `text` padded with zeros; what is longer than a label is cut.
#[must_use]
pub fn label(text: &str) -> [u8; LABEL] {
    padded(text)
}

/// `text` padded with zeros; what is longer is cut, between two characters.
#[must_use]
pub fn padded<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let mut padded = [0; LENGTH];
    let ends = text.char_indices().map(|(start, character)| start + character.len_utf8());
    let end = ends.take_while(|end| *end <= LENGTH).last().unwrap_or(0);
    for (to, from) in padded.iter_mut().zip(text[..end].bytes()) {
        *to = from;
    }
    padded
}

/// What was padded with zeros, or nothing if it is not UTF-8.
#[must_use]
pub fn text(padded: &[u8]) -> Option<&str> {
    let end = padded.iter().position(|byte| *byte == 0).unwrap_or(padded.len());
    core::str::from_utf8(&padded[..end]).ok()
}

pod!(ServiceName);

const _: () = assert!(size_of::<ServiceName>() == 3 * LABEL + 1 + 2);

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{label, text};

    #[test]
    fn a_label_survives_its_padding() {
        assert_eq!(text(&label("kube-dns")), Some("kube-dns"));
        assert_eq!(text(&label("")), Some(""));
        assert_eq!(text(&label(&"x".repeat(70))).map(str::len), Some(63));
    }
}
