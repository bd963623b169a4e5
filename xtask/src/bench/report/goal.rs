// SPDX-License-Identifier: Apache-2.0
//! What figures are to be, and whether they are.

use serde::{Deserialize, Serialize};

use crate::statistics::Estimate;

/// A goal, judged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Goal {
    /// What was wanted.
    pub(crate) text: String,
    /// Whether it is so.
    pub(crate) reached: bool,
}

/// What an estimate is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// The median is at least this.
    AtLeast(f64),
    /// The median is above this.
    Above(f64),
    /// The median is at most this.
    AtMost(f64),
    /// The median is at least the first, and the interval begins no lower than the second.
    AtLeastFrom(f64, f64),
    /// The interval does not end below this.
    Reaches(f64),
}

impl Wanted {
    /// Whether it is so.
    pub(crate) fn judge(self, estimate: &Estimate) -> Goal {
        let (median, low, high) = (estimate.median, estimate.low(), estimate.high());
        let (text, reached) = match self {
            Self::AtLeast(least) => (format!("≥ {least}"), median >= least),
            Self::Above(least) => (format!("> {least}"), median > least),
            Self::AtMost(most) => (format!("≤ {most}"), median <= most),
            Self::AtLeastFrom(least, lowest) => {
                (format!("≥ {least}, from {lowest}"), median >= least && low >= lowest)
            }
            Self::Reaches(value) => (format!("{value} within"), high >= value),
        };
        Goal { text, reached }
    }
}

#[cfg(test)]
mod tests {
    use super::{Estimate, Wanted};
    use crate::statistics::Interval;

    #[test]
    fn goals_are_judged_by_median_and_interval() {
        let interval = Interval { low: 0.94, high: 0.99, confidence: 0.95 };
        let estimate = Estimate { median: 0.97, interval: Some(interval) };
        for (wanted, reached) in [
            (Wanted::AtLeast(0.97), true),
            (Wanted::Above(0.97), false),
            (Wanted::AtMost(0.97), true),
            (Wanted::AtLeastFrom(0.97, 0.94), true),
            (Wanted::AtLeastFrom(0.97, 0.95), false),
            (Wanted::Reaches(0.99), true),
            (Wanted::Reaches(1.0), false),
        ] {
            assert_eq!(wanted.judge(&estimate).reached, reached, "{wanted:?}");
        }
    }
}
