// SPDX-License-Identifier: Apache-2.0
//! Durations as Go writes them.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration as in `1h30m`, with a sign (Go's `time.Duration`, and `metav1.Duration` in files).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration {
    nanoseconds: i64,
}

/// Why a text is no duration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration, as 30s and 1h15m are")]
pub struct NoDuration(String);

/// The longest one that is taken, in nanoseconds: 291 years.
const LONGEST: f64 = 9.2e18;

impl GoDuration {
    /// None at all.
    pub const ZERO: Self = Self { nanoseconds: 0 };

    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: i32) -> Self {
        Self { nanoseconds: seconds as i64 * 1_000_000_000 }
    }

    /// So many nanoseconds.
    #[must_use]
    pub const fn nanoseconds(nanoseconds: i64) -> Self {
        Self { nanoseconds }
    }

    /// The same without a sign, for one that is not negative.
    #[must_use]
    pub fn positive(self) -> Option<Duration> {
        u64::try_from(self.nanoseconds).ok().map(Duration::from_nanos)
    }
}

impl FromStr for GoDuration {
    type Err = NoDuration;

    fn from_str(text: &str) -> Result<Self, NoDuration> {
        let (sign, mut rest) = match text.strip_prefix(['+', '-']) {
            Some(rest) if text.starts_with('-') => (-1.0, rest),
            Some(rest) => (1.0, rest),
            None => (1.0, text),
        };
        let no_duration = || NoDuration(text.to_owned());
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        let mut sum = 0.0;
        let is_of_number = |symbol: char| symbol.is_ascii_digit() || symbol == '.';
        loop {
            let (number, after) = split_before(rest, |symbol| !is_of_number(symbol));
            let (unit, after) = split_before(after, is_of_number);
            let number: f64 = number.parse().map_err(|_| no_duration())?;
            sum += number * nanoseconds_of(unit).ok_or_else(no_duration)?;
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        // Go counts nanoseconds in 64 bits, which are enough for 292 years.
        if sum > LONGEST {
            return Err(no_duration());
        }
        #[expect(clippy::cast_possible_truncation, reason = "it is not too long")]
        let nanoseconds = (sign * sum).round() as i64;
        Ok(Self { nanoseconds })
    }
}

/// The text before the first such symbol, and what follows.
fn split_before(text: &str, is_next: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(is_next).unwrap_or(text.len()))
}

fn nanoseconds_of(unit: &str) -> Option<f64> {
    match unit {
        "ns" => Some(1.0),
        // The micro sign, and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => Some(1e3),
        "ms" => Some(1e6),
        "s" => Some(1e9),
        "m" => Some(60e9),
        "h" => Some(3_600e9),
        _ => None,
    }
}

/// As Go's `Duration.String`: hours, minutes and seconds from the first that is not zero on, and one smaller unit for
/// less than a second.
impl fmt::Display for GoDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanoseconds < 0 {
            formatter.write_str("-")?;
        }
        let length = Duration::from_nanos(self.nanoseconds.unsigned_abs());
        if length < Duration::from_secs(1) {
            // Below a second both languages write the same, but for zero.
            return if length.is_zero() {
                formatter.write_str("0s")
            } else {
                write!(formatter, "{length:?}")
            };
        }
        let (hours, minutes) = (length.as_secs() / 3600, length.as_secs() / 60 % 60);
        if hours > 0 {
            write!(formatter, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(formatter, "{minutes}m")?;
        }
        let nanoseconds = format!("{:09}", length.subsec_nanos());
        let fraction = nanoseconds.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        write!(formatter, "{}{point}{fraction}s", length.as_secs() % 60)
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_written_as_go_writes_them() {
        for (text, nanoseconds) in [
            ("0s", 0),
            ("1ns", 1),
            ("1.1µs", 1_100),
            ("250ms", 250_000_000),
            ("30s", 30_000_000_000),
            ("1.5s", 1_500_000_000),
            ("1m0s", 60_000_000_000),
            ("15m0s", 900_000_000_000),
            ("1h0m0s", 3_600_000_000_000),
            ("24h0m0s", 86_400_000_000_000),
            ("2h22m0.000000001s", 8_520_000_000_001),
            ("-1m30s", -90_000_000_000),
        ] {
            assert_eq!(GoDuration::nanoseconds(nanoseconds).to_string(), text);
            assert_eq!(text.parse(), Ok(GoDuration::nanoseconds(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn they_are_read_as_go_reads_them() {
        for (text, seconds) in [("0", 0), ("90m", 5_400), ("+1m", 60), ("0.5h", 1_800)] {
            assert_eq!(text.parse(), Ok(GoDuration::seconds(seconds)), "{text}");
        }
        for bad in ["", "s", "1", "--1s", "1 s", "one", "1d", "-", "9999999h"] {
            assert_eq!(bad.parse::<GoDuration>(), Err(NoDuration(bad.to_owned())), "{bad}");
        }
        assert_eq!(GoDuration::seconds(-1).positive(), None);
        assert_eq!(GoDuration::seconds(2).positive(), Some(Duration::from_secs(2)));
    }
}
