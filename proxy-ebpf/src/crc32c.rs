// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The checksum of SCTP, `CRC32c` (RFC 9260 appendix A).
//!
//! It is linear: where two packets of one length differ, their checksums differ by what the
//! difference alone would have, without the inversions at both ends. A difference in the first
//! four bytes of a packet of n bytes is a polynomial over GF(2), times x^(8n), modulo the
//! generator. Words are polynomials with the coefficient of x^0 in their highest bit.
//!
//! The verifier follows both outcomes of each branch on an unknown bit, and of a mask made of one.
//! So polynomials are not multiplied bit by bit, but by multiplications of integers.

use crate::frame::opaque;

/// Castagnoli's polynomial.
const GENERATOR: u32 = 0x82f6_3b78;
/// x^0.
const ONE: u32 = 1 << 31;
/// x^8.
const BYTE: u32 = ONE >> 8;

/// x^8 to the powers that the lower byte of a length stands for, and the upper one.
static LOWER: [u32; 256] = powers(BYTE);
static UPPER: [u32; 256] = powers(product(BYTE, powers(BYTE)[255]));

/// What a difference in the first four bytes of a packet, the first byte in the lowest bits, makes
/// its checksum differ by. The length is in bytes.
#[inline(always)]
pub(crate) fn difference(word: u32, length: u16) -> u32 {
    let [lower, upper] = opaque(length).to_le_bytes();
    product(product(word, LOWER[usize::from(lower)]), UPPER[usize::from(upper)])
}

/// The checksum of some words, the first byte of each in the lowest bits.
#[inline(always)]
pub(crate) fn of_words<const COUNT: usize>(words: [u32; COUNT]) -> u32 {
    /// x^32.
    const WORD: u32 = LOWER[4];
    let mut remainder = u32::MAX;
    for word in words {
        remainder = product(remainder ^ word, WORD);
    }
    !remainder
}

/// The product of two polynomials, modulo the generator.
#[inline(never)]
const fn product(left: u32, right: u32) -> u32 {
    // Bit n of it stands for x^(62 - n). From the lowest 31, those from x^32 on are divided away:
    // the multiple of the generator that has the same there is taken off.
    let product = multiply(left as u64, right as u64);
    let quotient = multiply(product & LOW, INVERSE) & LOW;
    ((product ^ quotient ^ multiply(quotient, GENERATOR as u64) << 1) >> 31) as u32
}

/// The lowest 31 bits.
const LOW: u64 = (1 << 31) - 1;

/// What the generator, with its x^32 as bit 0, has to be multiplied by to become 1 in its lowest 31
/// bits.
const INVERSE: u64 = {
    let generator = (GENERATOR as u64) << 1 & LOW | 1;
    let (mut inverse, mut bit) = (1, 1);
    while bit < 31 {
        inverse |= multiply(inverse, generator) & 1 << bit;
        bit += 1;
    }
    inverse
};

/// The product of two polynomials of 32 bits over GF(2), which is a multiplication without carries.
/// In each factor all but every fourth bit are left out: a sum of eight ones at most does not get
/// into the fourth bit above it. The lowest bit of the sum is what is wanted.
#[inline(always)]
const fn multiply(left: u64, right: u64) -> u64 {
    const EVERY_FOURTH: u64 = 0x1111_1111_1111_1111;
    let mut product = 0;
    let mut place = 0;
    while place < 4 {
        let mut sums = 0;
        let mut part = 0;
        while part < 4 {
            let left = left & EVERY_FOURTH << part;
            let right = right & EVERY_FOURTH << ((place + 4 - part) % 4);
            sums ^= left.wrapping_mul(right);
            part += 1;
        }
        product |= sums & EVERY_FOURTH << place;
        place += 1;
    }
    product
}

/// The first 256 powers of a polynomial.
const fn powers(base: u32) -> [u32; 256] {
    let mut powers = [ONE; 256];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = product(powers[exponent - 1], base);
        exponent += 1;
    }
    powers
}
