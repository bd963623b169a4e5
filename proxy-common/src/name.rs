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
    let mut padded = [0; LABEL];
    for (to, from) in padded.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    padded
}

/// The text of a padded label, or nothing if it is not UTF-8.
#[must_use]
pub fn text(label: &[u8; LABEL]) -> Option<&str> {
    let end = label.iter().position(|byte| *byte == 0).unwrap_or(LABEL);
    core::str::from_utf8(&label[..end]).ok()
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
