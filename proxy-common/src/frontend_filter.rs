// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The filter of frontends: whether an address may be a frontend's. A bitmap with one bit for an address
//! (a Bloom filter with a single hash function: Bloom, "Space/time trade-offs in hash coding with allowable
//! errors", 1970). A bit that is not set says that no frontend has this address; one that is set says
//! nothing.

use crate::{Address, pod};

/// How many bits a family has, as a power of two: as many as it may have frontends.
const BITS_LOG: u32 = 20;

/// Rows of a family's filter.
pub const FILTER_ROWS: u32 = 1 << (BITS_LOG - u64::BITS.ilog2());

/// The factors of [`FilterBit::of`]: digits of pi, those after the factors of flows' tags.
const FACTORS: [u64; 4] =
    [0x2ffd_72db_d01a_dfb7, 0xb8e1_afed_6a26_7e96, 0xba7c_9045_f12c_7f99, 0x24a1_9947_b391_6cf7];
/// The factor that mixes their sum: an odd one.
const MIXER: u64 = 0x6369_20d8_7157_4e69;

/// The place of an address in the filter. Several addresses share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FilterBit(u32);

impl FilterBit {
    /// The one of an address: by a multilinear hash, as the tags of flows are, for none of its products
    /// waits for another. The sum of these is mixed: addresses stand in rows, and would fall into rows, so
    /// that one in four or none of the next addresses has the bit of a frontend's.
    #[must_use]
    #[inline(always)]
    pub fn of<A: Address>(address: &A) -> Self {
        let mut sum = 0_u64;
        for (word, factor) in address.words().iter().zip(&FACTORS) {
            sum = sum.wrapping_add(u64::from(*word).wrapping_mul(*factor));
        }
        let mixed = (sum ^ sum >> 32).wrapping_mul(MIXER);
        Self((mixed >> (u64::BITS - BITS_LOG)) as u32)
    }

    /// The row that holds it.
    #[must_use]
    #[inline(always)]
    pub const fn row(self) -> u32 {
        self.0 / u64::BITS
    }

    /// The bit within its row.
    #[inline(always)]
    const fn mask(self) -> u64 {
        1 << (self.0 % u64::BITS)
    }
}

/// A row: one word, read and written whole.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterRow(pub u64);

impl FilterRow {
    /// Whether a bit of this row is set.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, bit: FilterBit) -> bool {
        self.0 & bit.mask() != 0
    }

    /// The same with a bit of this row set, or cleared.
    #[must_use]
    pub const fn with(self, bit: FilterBit, is_set: bool) -> Self {
        Self(if is_set { self.0 | bit.mask() } else { self.0 & !bit.mask() })
    }
}

pod!(FilterRow);

const _: () = assert!(size_of::<FilterRow>() == 8);
const _: () = assert!(1 << BITS_LOG == crate::frontend::MAX_FRONTENDS);

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::{FILTER_ROWS, FilterBit, FilterRow};
    use crate::{Address as _, Family, V4, V6};

    fn bit<F: Family>(address: IpAddr) -> FilterBit {
        FilterBit::of(&F::Addr::from_ip(address).unwrap())
    }

    /// Addresses as clusters give them out: one after the other, and by node. Every second one is a
    /// frontend's. At random, 3.1 % of the others would have the bit of one.
    #[expect(clippy::large_stack_arrays, reason = "a test's thread has room for it")]
    fn few_others_pass<F: Family>(address: impl Fn(u16) -> IpAddr) {
        let mut rows = [FilterRow::default(); FILTER_ROWS as usize];
        for number in (0..=u16::MAX).step_by(2) {
            let bit = bit::<F>(address(number));
            let row = &mut rows[bit.row() as usize];
            *row = row.with(bit, true);
        }
        let others = (1..=u16::MAX).step_by(2).map(|number| bit::<F>(address(number)));
        let passed = others.filter(|bit| rows[bit.row() as usize].has(*bit)).count();
        assert!((800..1_200).contains(&passed), "{passed} of 32,768");
    }

    #[test]
    fn few_others_pass_v4() {
        few_others_pass::<V4>(|number| {
            let [node, host] = number.to_be_bytes();
            Ipv4Addr::new(10, 244, node, host).into()
        });
        // The third of each network of sixteen addresses.
        few_others_pass::<V4>(|number| {
            Ipv4Addr::from_bits(0x0a60_0003 + (u32::from(number) << 4)).into()
        });
    }

    #[test]
    fn few_others_pass_v6() {
        few_others_pass::<V6>(|number| {
            Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, number).into()
        });
        few_others_pass::<V6>(|number| {
            let [node, host] = number.to_be_bytes().map(u16::from);
            Ipv6Addr::new(0xfd00, 0x10, 0x244, node, 0, 0, 0, host).into()
        });
        // As they are made of MAC addresses.
        few_others_pass::<V6>(|number| {
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0x50, 0x56ff, 0xfe12, number).into()
        });
    }

    #[test]
    fn each_word_of_an_address_counts() {
        let address = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 1);
        for word in 0..8 {
            let mut segments = address.segments();
            segments[word] ^= 0x100;
            assert_ne!(bit::<V6>(Ipv6Addr::from(segments).into()), bit::<V6>(address.into()));
        }
    }

    #[test]
    fn a_bit_is_set_and_cleared_alone() {
        let [one, other] = [0, 5].map(FilterBit);
        let row = FilterRow::default().with(one, true).with(other, true).with(other, true);
        assert!(row.has(one) && row.has(other) && !row.has(FilterBit(6)));
        let row = row.with(one, false);
        assert!(!row.has(one) && row.has(other));
        assert_eq!(row.with(other, false), FilterRow::default());
        let last = FilterBit((1 << super::BITS_LOG) - 1);
        assert_eq!(last.row(), FILTER_ROWS - 1);
        assert_eq!(FilterRow::default().with(last, true), FilterRow(1 << 63));
    }
}
