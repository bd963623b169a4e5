// SPDX-License-Identifier: Apache-2.0
//! Gives out rows of a table, singly or as ranges, and takes them back.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    ops::Range,
    time::Duration,
};

/// How long what was freed rests before it is given out again: longer by far than any program
/// runs, even on a processor that the hypervisor has stopped.
pub const REST: Duration = Duration::from_secs(5);

/// The rows of one table.
///
/// Free rows are kept as maximal ranges, and a request is cut from the shortest that fits (the
/// lowest of them): ranges of common lengths are used again for the same, small holes are filled
/// first, and what has been freed grows together. Everything takes logarithmic time.
#[derive(Debug)]
pub struct Allocator {
    by_start: BTreeMap<u32, u32>,
    by_length: BTreeSet<(u32, u32)>,
    /// What rests, and until when, the earliest first.
    resting: VecDeque<(Duration, Range<u32>)>,
    /// Whether what has rested is free only when [`walked`](Self::walked) says so.
    waits_for_walks: bool,
    /// How many rows are given out.
    in_use: u32,
}

impl Allocator {
    /// All of `rows` are free.
    #[must_use]
    pub fn new(rows: Range<u32>) -> Self {
        let mut allocator = Self {
            by_start: BTreeMap::new(),
            by_length: BTreeSet::new(),
            resting: VecDeque::new(),
            waits_for_walks: false,
            in_use: 0,
        };
        allocator.insert(rows.start, rows.end - rows.start);
        allocator
    }

    /// Things refer to rows for as long as they like: what has rested is free only when a walk through all of
    /// them has found none that does.
    pub(super) const fn wait_for_walks(&mut self) {
        self.waits_for_walks = true;
    }

    /// A walk through all that refers to rows has begun at this time. What had rested by then is free from now
    /// on, if nothing refers to it. Says whether anything is.
    pub(super) fn walked(&mut self, began: Duration, is_referred: impl Fn(u32) -> bool) -> bool {
        let mut is_any_free = false;
        for (until, rows) in mem::take(&mut self.resting) {
            if until > began {
                self.resting.push_back((until, rows));
                continue;
            }
            for row in rows {
                if is_referred(row) {
                    self.resting.push_back((until, row..row + 1));
                } else {
                    self.free(row..row + 1);
                    is_any_free = true;
                }
            }
        }
        is_any_free
    }

    /// From when on a walk may find rows that nothing refers to, if any rest that wait for one.
    pub(super) fn next_walk(&self) -> Option<Duration> {
        let first = self.resting.front().filter(|_| self.waits_for_walks);
        first.map(|(until, _)| *until)
    }

    /// How many rows wait for a walk.
    pub(super) fn kept(&self) -> u32 {
        let kept = self.resting.iter().filter(|_| self.waits_for_walks);
        kept.map(|(_, rows)| rows.end - rows.start).sum()
    }

    /// Gives out `count` adjacent rows (more than none), and says which is the first; nothing if
    /// there are not as many together. `now` never goes back.
    pub fn allocate(&mut self, count: u32, now: Duration) -> Option<u32> {
        self.wake(now);
        let &(length, start) = self.by_length.range((count, 0)..).next()?;
        self.remove(start, length);
        if length > count {
            self.insert(start + count, length - count);
        }
        self.in_use += count;
        Some(start)
    }

    /// How many rows can be given out together.
    pub(super) fn longest(&mut self, now: Duration) -> u32 {
        self.wake(now);
        self.by_length.last().map_or(0, |(length, _)| *length)
    }

    /// Takes rows out that somebody has already; says whether all of them were free.
    #[must_use]
    pub fn reserve(&mut self, rows: &Range<u32>) -> bool {
        let Some((&start, &length)) = self.by_start.range(..=rows.start).next_back() else {
            return false;
        };
        let end = start + length;
        if end < rows.end {
            return false;
        }
        self.remove(start, length);
        for (start, end) in [(start, rows.start), (rows.end, end)] {
            if start < end {
                self.insert(start, end - start);
            }
        }
        self.in_use += rows.end - rows.start;
        true
    }

    /// Takes rows back. They rest from `now` on.
    pub fn release(&mut self, rows: Range<u32>, now: Duration) {
        self.in_use -= rows.end - rows.start;
        self.resting.push_back((now + REST, rows));
    }

    /// Whether a row is free and does not rest.
    pub(super) fn is_free(&self, row: u32) -> bool {
        let before = self.by_start.range(..=row).next_back();
        before.is_some_and(|(start, length)| row < start + length)
    }

    /// Lets free rows rest from `now` on: somebody may have had them not long ago.
    pub(super) fn rest(&mut self, rows: Range<u32>, now: Duration) {
        if self.reserve(&rows) {
            self.release(rows, now);
        }
    }

    /// How many rows are given out, without those that rest.
    pub(super) const fn in_use(&self) -> u32 {
        self.in_use
    }

    /// Frees what has rested.
    fn wake(&mut self, now: Duration) {
        if self.waits_for_walks {
            return;
        }
        while let Some((_, rows)) = self.resting.pop_front_if(|(until, _)| *until <= now) {
            self.free(rows);
        }
    }

    /// Frees rows, together with what is free beside them.
    fn free(&mut self, rows: Range<u32>) {
        let (mut start, mut end) = (rows.start, rows.end);
        if let Some((&before, &length)) = self.by_start.range(..start).next_back()
            && before + length == start
        {
            self.remove(before, length);
            start = before;
        }
        if let Some(&length) = self.by_start.get(&end) {
            self.remove(end, length);
            end += length;
        }
        self.insert(start, end - start);
    }

    fn insert(&mut self, start: u32, length: u32) {
        let _ = self.by_start.insert(start, length);
        let _ = self.by_length.insert((length, start));
    }

    fn remove(&mut self, start: u32, length: u32) {
        let _ = self.by_start.remove(&start);
        let _ = self.by_length.remove(&(length, start));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Allocator, REST};
    use std::time::Duration;

    const START: Duration = Duration::ZERO;

    #[test]
    fn rows_rest_before_they_are_given_out_again() {
        let mut rows = Allocator::new(1..3);
        assert_eq!(rows.allocate(2, START), Some(1));
        rows.release(1..3, START);
        let almost = REST.checked_sub(Duration::from_nanos(1)).unwrap();
        assert_eq!(rows.allocate(1, almost), None);
        assert_eq!(rows.allocate(2, REST), Some(1));
    }

    #[test]
    fn the_shortest_hole_that_fits_is_cut() {
        let mut rows = Allocator::new(0..100);
        let taken: Vec<_> =
            [10, 1, 3, 1, 10].map(|count| (rows.allocate(count, START).unwrap(), count)).to_vec();
        for at in [0, 2, 4] {
            let (start, count) = taken[at];
            rows.release(start..start + count, START);
        }
        assert_eq!(rows.allocate(2, REST), Some(taken[2].0));
        assert_eq!(rows.allocate(1, REST), Some(taken[2].0 + 2));
        assert_eq!(rows.allocate(4, REST), Some(0));
    }

    proptest! {
        #[test]
        fn nothing_is_given_out_twice_and_all_grows_together_again(
            steps in prop::collection::vec((1_u32..20, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut rows = Allocator::new(7..1007);
            let mut held: Vec<std::ops::Range<u32>> = Vec::new();
            let mut now = START;
            for (count, pick) in steps {
                now += REST / 3;
                if count % 3 == 0 && !held.is_empty() {
                    rows.release(held.swap_remove(pick.index(held.len())), now);
                } else if let Some(start) = rows.allocate(count, now) {
                    let new = start..start + count;
                    prop_assert!(new.start >= 7 && new.end <= 1007);
                    prop_assert!(held.iter().all(|old| old.end <= new.start || new.end <= old.start));
                    held.push(new);
                }
            }
            for range in held.drain(..) {
                rows.release(range, now);
            }
            prop_assert_eq!(rows.in_use(), 0);
            prop_assert_eq!(rows.allocate(1000, now + REST), Some(7));
        }
    }
}
