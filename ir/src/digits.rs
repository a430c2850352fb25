//! Comparisons whose outcome parties hold: sizes of what is dealt and sent, for `compare` and `choose`.
//!
//! Of a public y and a secret r, each of n - 1 bits below a top one, 1{y < r} is read digit by digit, the most significant first:
//! with e_k = 1{digits k are equal} and l_k = 1{y's digit k < r's} it is l1 ^ e1·l2 ^ e1·e2·l3 ^ e1·e2·e3·l4. A unit vector at
//! r's digit gives shares of e_k and l_k for any y; their products take a round.

use crate::types::Width;

/// Digits of a comparison.
pub const DIGITS: usize = 4;

/// Bits that both parties open: whether the first three digits are equal, and whether the last three are less.
pub const MASKED: Width = 6;

/// Dealt bits of a comparison beside its unit vectors: the top bit of the mask, and the products of two and more masks of the
/// bits above that the borrow is a sum of.
pub const PRODUCTS: Width = 16;

/// The product of masks that [`PRODUCTS`] bit `i` holds: a set of e1, e2, e3 (bits 0 to 2), and which l comes with it.
pub const SETS: [(usize, Option<usize>); PRODUCTS as usize - 1] = [
    (0b011, None),
    (0b101, None),
    (0b110, None),
    (0b111, None),
    (0b001, Some(0)),
    (0b001, Some(1)),
    (0b010, Some(1)),
    (0b011, Some(1)),
    (0b001, Some(2)),
    (0b010, Some(2)),
    (0b011, Some(2)),
    (0b100, Some(2)),
    (0b101, Some(2)),
    (0b110, Some(2)),
    (0b111, Some(2)),
];

/// Greatest digit of a `compare`: a unit vector of 2^8 entries is four words.
const MAX_DIGIT: Width = 8;

/// Least and greatest width of an opening that `compare` reads.
pub const OPENINGS: [Width; 2] = [DIGITS as Width + 1, MAX_DIGIT * DIGITS as Width + 1];

/// Bits of the digits of numbers of `width` bits with a top bit, the most significant first.
pub fn digits(width: Width) -> [Width; DIGITS] {
    let (each, more) = ((width - 1) / DIGITS as Width, (width - 1) % DIGITS as Width);
    std::array::from_fn(|i| each + Width::from((i as Width) < more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_hold_all_but_the_top_bit() {
        for width in OPENINGS[0]..=OPENINGS[1] {
            assert_eq!(digits(width).iter().sum::<Width>(), width - 1);
            assert!(digits(width).iter().all(|digit| (1..=MAX_DIGIT).contains(digit)));
        }
    }
}
