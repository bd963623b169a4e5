// SPDX-License-Identifier: Apache-2.0

//! From a history that fails to a short one that still does.

use std::time::Instant;

/// Takes steps away, and makes what is left simpler, as long as it still fails and there is time.
pub(super) fn reduce<T: Clone>(
    mut steps: Vec<T>,
    simpler: impl Fn(&T) -> Vec<T>,
    mut fails: impl FnMut(&[T]) -> bool,
    until: Instant,
) -> Vec<T> {
    loop {
        let before = steps.len();
        let mut length = steps.len().div_ceil(2).max(1);
        loop {
            drop_chunks(&mut steps, length, &mut fails, until);
            if length == 1 {
                break;
            }
            length = length.div_ceil(2);
        }
        let is_simpler = simplify(&mut steps, &simpler, &mut fails, until);
        if Instant::now() >= until || !is_simpler && steps.len() == before {
            return steps;
        }
    }
}

/// Drops chunks of so many steps, from the last to the first.
fn drop_chunks<T: Clone>(
    steps: &mut Vec<T>,
    length: usize,
    fails: &mut impl FnMut(&[T]) -> bool,
    until: Instant,
) {
    let mut end = steps.len();
    while end > 0 && Instant::now() < until {
        let start = end.saturating_sub(length);
        let without = [&steps[..start], &steps[end..]].concat();
        if fails(&without) {
            *steps = without;
        }
        end = start;
    }
}

/// Replaces each step by a simpler one, while that still fails; says whether any was.
fn simplify<T: Clone>(
    steps: &mut Vec<T>,
    simpler: &impl Fn(&T) -> Vec<T>,
    fails: &mut impl FnMut(&[T]) -> bool,
    until: Instant,
) -> bool {
    let mut is_simpler = false;
    for at in 0..steps.len() {
        let mut candidates = simpler(&steps[at]);
        while let Some(candidate) = candidates.pop() {
            if Instant::now() >= until {
                return is_simpler;
            }
            let mut changed = steps.clone();
            changed[at] = candidate;
            if fails(&changed) {
                *steps = changed;
                candidates = simpler(&steps[at]);
                is_simpler = true;
            }
        }
    }
    is_simpler
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::reduce;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn what_does_not_matter_goes() {
        let history: Vec<u32> = (0..500).collect();
        let fails = |steps: &[u32]| {
            let place = |wanted| steps.iter().position(|step| *step == wanted);
            place(17).zip(place(333)).is_some_and(|(first, second)| first < second)
        };
        assert_eq!(reduce(history, |_| Vec::new(), fails, soon()), [17, 333]);
    }

    #[test]
    fn what_is_left_becomes_simpler() {
        let simpler = |step: &u32| step.checked_sub(1).into_iter().collect();
        let fails = |steps: &[u32]| steps.iter().any(|step| *step > 6);
        assert_eq!(reduce(vec![3, 12, 90], simpler, fails, soon()), [7]);
    }

    #[test]
    fn it_ends_in_time() {
        let history: Vec<u32> = (0..500).collect();
        assert_eq!(reduce(history.clone(), |_| Vec::new(), |_| true, Instant::now()), history);
    }
}
