// SPDX-License-Identifier: Apache-2.0
//! Medians, and how sure they are.

use serde::{Deserialize, Serialize};

/// How sure the interval of an [`Estimate`] is to hold the true median, if there are values enough.
pub(crate) const CONFIDENCE: f64 = 0.95;

/// The median of some values, and between which of them the true one is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    /// The middle one of the values; of another part than the half, the one there.
    pub(crate) median: f64,
    /// Between which the true one is; none where there are too few values to say so.
    pub(crate) interval: Option<Interval>,
}

/// Where the true value is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// The lower end.
    pub(crate) low: f64,
    /// The upper end.
    pub(crate) high: f64,
    /// How likely an interval made in this way holds the true value: 0.95 or more, and less for
    /// medians of fewer than six values.
    pub(crate) confidence: f64,
}

impl Estimate {
    /// The median of `values`, none of no values, with its interval, which is less sure than
    /// [`CONFIDENCE`] where there are too few of them.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        Self::surer_than(0.0, values, 0.5)
    }

    /// The value below which this part of the values lies (with 0.5, the median), none of no values,
    /// with its interval, if there are values enough for one that is as sure as [`CONFIDENCE`].
    pub(crate) fn at(values: &[f64], part: f64) -> Option<Self> {
        Self::surer_than(CONFIDENCE, values, part)
    }

    /// Without an interval that is less sure than this, or not at all.
    ///
    /// The interval goes from the value of one rank to that of another, the narrowest such that is as
    /// sure on either side. How many of n values lie above the true one has a binomial distribution,
    /// however the values are distributed: Conover, *Practical Nonparametric Statistics*, 3rd edition,
    /// 3.2; Hahn and Meeker, *Statistical Intervals*, 5.2.
    fn surer_than(least_sure: f64, values: &[f64], part: f64) -> Option<Self> {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let Outside { above, below, confidence } = Outside::of(values.len(), part);
        let interval = Interval { low: values[below], high: values[last - above], confidence };
        Some(Self {
            median: quantile(values.iter().copied(), part),
            interval: (confidence > 0.0 && confidence >= least_sure).then_some(interval),
        })
    }

    /// The lower end of the interval; without one, the value itself.
    pub(crate) fn low(&self) -> f64 {
        self.interval.map_or(self.median, |interval| interval.low)
    }

    /// The upper end of the interval; without one, the value itself.
    pub(crate) fn high(&self) -> f64 {
        self.interval.map_or(self.median, |interval| interval.high)
    }
}

/// How many values lie outside of an interval, and how sure it is.
struct Outside {
    above: usize,
    below: usize,
    confidence: f64,
}

impl Outside {
    /// Of the interval for the value below which this part of so many (more than none) lies.
    fn of(count: usize, part: f64) -> Self {
        let miss = (1.0 - CONFIDENCE) / 2.0;
        let last = count - 1;
        // The chance that so many are above the true value, as a logarithm, for it is smaller at first
        // than numbers can be; and the chance that no more than these are.
        let mut exactly = real(count) * part.ln();
        let mut at_most = exactly.exp();
        let (mut above, mut missed_above) = (0, at_most);
        for number in 0..last {
            if at_most <= miss {
                (above, missed_above) = (number, at_most);
            }
            if at_most >= 1.0 - miss {
                return Self { above, below: last - number, confidence: at_most - missed_above };
            }
            exactly += (real(count - number) / real(number + 1) * (1.0 - part) / part).ln();
            at_most += exactly.exp();
        }
        Self { above, below: 0, confidence: (at_most - missed_above).max(0.0) }
    }
}

/// The value below which this part of `values` lies; no number if there are none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the place is that of one of the values"
)]
pub(crate) fn quantile(values: impl Iterator<Item = f64>, part: f64) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let place = real(values.len().saturating_sub(1)) * part;
    let at = |place: f64| values.get(place as usize).copied().unwrap_or(f64::NAN);
    let (lower, upper) = (at(place.floor()), at(place.ceil()));
    lower + (upper - lower) * place.fract()
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "nothing here is counted to 2^52")]
pub(crate) const fn real(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::{Estimate, Interval, Outside, quantile};

    fn near(value: f64, other: f64) -> bool {
        (value - other).abs() < 1e-4
    }

    #[test]
    fn quantiles_lie_between_values() {
        let values = || [3.0, 1.0, 2.0, 4.0].into_iter();
        assert!(near(quantile(values(), 0.0), 1.0));
        assert!(near(quantile(values(), 0.5), 2.5));
        assert!(near(quantile(values(), 1.0), 4.0));
        assert!(quantile([].into_iter(), 0.5).is_nan());
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        // Conover, table A3: the binomial distribution with p = 0.5.
        for (count, outside, confidence) in [
            (5, 0, 0.9375),
            (6, 0, 0.96875),
            (9, 1, 0.96094),
            (15, 3, 0.96484),
            (20, 5, 0.95861),
            (25, 7, 0.95671),
        ] {
            let Outside { above, below, confidence: sure } = Outside::of(count, 0.5);
            assert_eq!((above, below), (outside, outside), "{count}");
            assert!(near(sure, confidence), "{count}: {sure}");
        }
    }

    #[test]
    fn intervals_of_the_highest_values_need_many() {
        // From the binomial distribution with p = 0.01: of 100 values none is above the 99th
        // percentile in 36.6 % of cases, and no more than three in 98.2 %.
        let Outside { above, below, confidence } = Outside::of(100, 0.99);
        assert_eq!((above, below), (0, 96));
        assert!(near(confidence, 0.98163 - 0.36603), "{confidence}");
        let Outside { above, below, confidence } = Outside::of(450, 0.99);
        assert_eq!((above, below), (0, 440));
        assert!(near(confidence, 0.98342 - 0.01086), "{confidence}");
    }

    #[test]
    fn intervals_of_thousands_of_values_are_as_narrow_as_they_can_be() {
        // From the binomial distribution in whole numbers: of 5,000 values, no more than 2,430 are above
        // the median in 2.4658 % of cases, and no more than 2,431 in over 2.5 %.
        let Outside { above, below, confidence } = Outside::of(5000, 0.5);
        assert_eq!((above, below), (2430, 2430));
        assert!(near(confidence, 0.95068), "{confidence}");
    }

    #[test]
    fn estimates_are_values_that_were_measured() {
        let values: Vec<_> = (1..=15).rev().map(f64::from).collect();
        let estimate = Estimate::of(&values).unwrap();
        let values = [estimate.median, estimate.low(), estimate.high()];
        assert!([8.0, 4.0, 12.0].iter().zip(values).all(|(wanted, value)| near(*wanted, value)));
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn too_few_values_have_no_interval() {
        let interval = |count, part: Option<f64>| {
            let values = vec![7.0; count];
            let estimate =
                part.map_or_else(|| Estimate::of(&values), |part| Estimate::at(&values, part));
            estimate.unwrap().interval
        };
        assert_eq!(interval(1, None), None);
        assert!(matches!(interval(2, None), Some(Interval { confidence: 0.5, .. })));
        assert_eq!(interval(60, Some(0.99)), None);
        // Of 347 values none is above the 99th percentile in 3.06 % of cases, and no more than seven in
        // 97.51 %; of 348, none in 3.03 %, and no more than eight in 99.08 %.
        assert_eq!(interval(347, Some(0.99)), None);
        assert!(interval(348, Some(0.99)).is_some());
    }
}
