// SPDX-License-Identifier: Apache-2.0

//! The middle of several times: what something takes, where the machine stands still now and then.

use std::time::Duration;

/// The middle one, and of two the longer one; zero if there is none. Sorts them.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_middle_one() {
        for (times, expected) in
            [(&[][..], 0), (&[7], 7), (&[9, 1], 9), (&[500, 1, 3], 3), (&[4, 9, 2, 1], 4)]
        {
            let mut times: Vec<_> = times.iter().map(|time| Duration::from_millis(*time)).collect();
            assert_eq!(median(&mut times), Duration::from_millis(expected));
        }
    }
}
