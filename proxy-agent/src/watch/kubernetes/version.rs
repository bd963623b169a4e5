// SPDX-License-Identifier: Apache-2.0
//! Versions of objects and lists.

use std::cmp::Ordering;

/// A `resourceVersion`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version(Box<str>);

impl Version {
    /// A version; the empty text is none.
    pub(super) fn new(text: Option<&str>) -> Option<Self> {
        text.filter(|text| !text.is_empty()).map(|text| Self(text.into()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Which of two is the newer. Decimal numbers of any size can be compared (KEP-5504, which
    /// says what every kube-apiserver has done); anything else is only equal to itself.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self.digits(), other.digits()) {
            (Some(one), Some(two)) => Some(one.len().cmp(&two.len()).then_with(|| one.cmp(two))),
            _ => (self == other).then_some(Ordering::Equal),
        }
    }

    /// Whether this one is known to be older.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        self.compare(other) == Some(Ordering::Less)
    }

    /// Whether this one is known not to be newer.
    pub(super) fn brings_nothing_after(&self, other: &Self) -> bool {
        matches!(self.compare(other), Some(Ordering::Less | Ordering::Equal))
    }

    fn digits(&self) -> Option<&str> {
        let decimal = self.0.bytes().all(|byte| byte.is_ascii_digit());
        decimal.then(|| self.0.trim_start_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering::{Equal, Greater, Less};

    use super::Version;

    #[test]
    fn decimal_numbers_of_any_size_are_compared() {
        let version = |text| Version::new(Some(text)).unwrap();
        for (one, two, expected) in [
            ("9", "10", Some(Less)),
            ("10", "10", Some(Equal)),
            ("0010", "10", Some(Equal)),
            ("99999999999999999999999999", "100000000000000000000000000", Some(Less)),
            ("184467440737095516160", "184467440737095516159", Some(Greater)),
            ("a10", "a9", None),
            ("a10", "a10", Some(Equal)),
            ("-1", "1", None),
            ("1.0", "2", None),
        ] {
            assert_eq!(version(one).compare(&version(two)), expected, "{one} and {two}");
        }
        assert_eq!(Version::new(Some("")), None);
    }
}
