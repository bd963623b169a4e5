// SPDX-License-Identifier: Apache-2.0

//! Who answered how often.

use std::collections::BTreeMap;
use std::fmt;

use super::{Answer, Failure};

/// The outcome of many requests.
#[derive(Debug, Default)]
pub struct Shares {
    /// How often each server answered.
    pub answers: BTreeMap<String, usize>,
    /// What went wrong.
    pub failures: Vec<Failure>,
}

impl Shares {
    /// The number of requests.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.answers.values().sum::<usize>() + self.failures.len()
    }

    /// Whether exactly `servers` answered, all requests, and each as often
    /// as a fair choice makes it, within chance.
    ///
    /// The number of answers of one server is binomial; a fair one is more
    /// than five standard deviations off once in a million times.
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 requests")]
    #[must_use]
    pub fn is_fair(&self, servers: &[&str]) -> bool {
        let requests = self.requests() as f64;
        let share = 1.0 / servers.len() as f64;
        let deviation = (requests * share * (1.0 - share)).sqrt();
        self.failures.is_empty()
            && self.answers.len() == servers.len()
            && servers.iter().all(|server| {
                let count = self.answers.get(*server).copied().unwrap_or(0);
                (count as f64 - requests * share).abs() <= 5.0 * deviation
            })
    }
}

impl FromIterator<Result<Answer, Failure>> for Shares {
    fn from_iter<I: IntoIterator<Item = Result<Answer, Failure>>>(results: I) -> Self {
        let mut shares = Self::default();
        for result in results {
            match result {
                Ok(answer) => *shares.answers.entry(answer.server).or_default() += 1,
                Err(failure) => shares.failures.push(failure),
            }
        }
        shares
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (server, count) in &self.answers {
            write!(formatter, "{server} {count}, ")?;
        }
        write!(formatter, "failed {}", self.failures.len())?;
        self.failures.first().map_or(Ok(()), |failure| write!(formatter, " ({failure})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(answers: &[(&str, usize)]) -> Shares {
        let answers = answers.iter().map(|(name, count)| ((*name).to_owned(), *count));
        Shares { answers: answers.collect(), failures: Vec::new() }
    }

    #[test]
    fn fairness_is_within_chance() {
        assert!(shares(&[("a", 52), ("b", 48)]).is_fair(&["a", "b"]));
        assert!(!shares(&[("a", 90), ("b", 10)]).is_fair(&["a", "b"]));
        assert!(!shares(&[("a", 100)]).is_fair(&["a", "b"]));
        assert!(!shares(&[("a", 50), ("b", 50)]).is_fair(&["a"]));
        assert!(shares(&[("a", 100)]).is_fair(&["a"]));
    }
}
