// SPDX-License-Identifier: Apache-2.0
//! Which rows of Service ports flows refer to.

use proxy_common::frontend::ServiceIndex;

/// How many rows one word tells of.
const BITS: u32 = u64::BITS;

/// The rows of Service ports that flows refer to: a bit for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referred(Box<[u64]>);

impl Referred {
    /// None of so many rows, reserved ones included.
    #[must_use]
    pub fn none_of(rows: u32) -> Self {
        Self(vec![0; rows.div_ceil(BITS) as usize].into())
    }

    /// A flow refers to this row. What is none of the table's does not count.
    pub fn add(&mut self, index: ServiceIndex) {
        if let Some(word) = self.0.get_mut((index.0 / BITS) as usize) {
            *word |= 1 << (index.0 % BITS);
        }
    }

    /// Whether a flow does.
    #[must_use]
    pub fn has(&self, index: ServiceIndex) -> bool {
        let word = self.0.get((index.0 / BITS) as usize);
        word.is_some_and(|word| word >> (index.0 % BITS) & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Referred, ServiceIndex};

    #[test]
    fn each_row_has_a_bit_of_its_own() {
        let mut referred = Referred::none_of(130);
        for row in [0, 63, 64, 129, u32::MAX] {
            referred.add(ServiceIndex(row));
        }
        let has = (0..200).filter(|row| referred.has(ServiceIndex(*row)));
        assert_eq!(has.collect::<Vec<_>>(), [0, 63, 64, 129]);
        assert!(!referred.has(ServiceIndex(u32::MAX)));
    }
}
