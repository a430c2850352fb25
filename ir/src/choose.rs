//! `choose`: the place of the greatest of many numbers. What it deals and sends follows from how many there are and how
//! wide, and stands here for the verifier, the cost model, the dealer and the machine.
//!
//! The numbers are shuffled by both parties in turn, so that nobody knows which stands where, and then compared in the
//! open, group by group. In an order that nobody knows the outcomes are those of a random ranking, whatever the numbers
//! (sorting in secure computation: Hamada, Kikuchi, Ikarashi, Chida and Takahashi, ICISC 2012, section 4).
//!
//! A comparison is of two numbers whose difference fits n bits with a sign, by its digits: see [`crate::digits`].

use crate::digits::{DIGITS, MASKED, PRODUCTS, digits};
use crate::types::Width;
use crate::wire::packed_bytes;

/// Bits that an opening is lifted by before its elements are compared: the lift of any opening of n0 bits, its claim kept or
/// broken, lies within 3/4 of 2^n0, so that differences lie within 2^(n0 + 1).
pub const LIFT: Width = 2;

/// Greatest digit: a unit vector of 2^6 entries is a word.
const MAX_DIGIT: Width = 6;

/// Greatest width of the opening.
pub const MAX_OPENING: Width = MAX_DIGIT * DIGITS as Width + 1 - LIFT;

/// Sizes of a `choose`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choosing {
    /// How many numbers there are.
    pub elements: u64,
    /// Bits of a number while it is compared.
    pub width: Width,
    /// Bits of a place.
    pub place: Width,
    /// Bits of the digits, the most significant first.
    pub digits: [Width; DIGITS],
    /// One after the other.
    pub levels: Vec<Level>,
}

/// All pairs of each group are compared at once, and one of each group is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    /// How many numbers are left.
    pub alive: u64,
    /// How many of them make a group; the last one may be smaller.
    pub group: u64,
}

impl Level {
    /// Comparisons.
    pub fn pairs(self) -> u64 {
        let (groups, rest) = (self.alive / self.group, self.alive % self.group);
        groups * (self.group * (self.group - 1) / 2) + rest * rest.saturating_sub(1) / 2
    }

    /// How many are left after it.
    pub fn left(self) -> u64 {
        self.alive.div_ceil(self.group)
    }
}

/// A message of a `choose`, in bytes; both directions at once, or one of them is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// From the client.
    pub client: u64,
    /// From the server.
    pub server: u64,
}

/// Sizes that groups are tried with: all, or one of these.
const GROUPS: [u64; 10] = [2, 3, 4, 6, 8, 12, 16, 24, 32, 64];

/// The levels with the least sum of comparisons and, for each level, as many more as there are numbers: on common links that
/// is what its three rounds are worth.
fn levels(elements: u64) -> Vec<Level> {
    let (mut best, mut least) = (Vec::new(), u64::MAX);
    let mut open = vec![(elements, 0, Vec::new())];
    while let Some((alive, price, levels)) = open.pop() {
        if price >= least {
            continue;
        }
        if alive <= 1 {
            (best, least) = (levels, price);
            continue;
        }
        for group in GROUPS.into_iter().filter(|&group| group < alive).chain([alive]) {
            let level = Level { alive, group };
            let price = price.saturating_add(level.pairs()).saturating_add(elements);
            if price < least {
                open.push((level.left(), price, [&levels[..], &[level]].concat()));
            }
        }
    }
    best
}

impl Choosing {
    /// For `elements` numbers, at least one, that are opened at `opening` bits.
    pub fn new(elements: u64, opening: Width) -> Choosing {
        assert!(elements > 0 && (3..=MAX_OPENING).contains(&opening), "verified: {elements} numbers of {opening} bits");
        let width = opening + LIFT;
        let place = (u64::BITS - (elements - 1).leading_zeros()).max(1) as Width;
        Choosing { elements, width, place, digits: digits(width), levels: levels(elements) }
    }

    /// Comparisons of all levels.
    pub fn comparisons(&self) -> u64 {
        self.levels.iter().map(|level| level.pairs()).sum()
    }

    /// Elements and bits of each of what is dealt, to the server alone, in the order of the stream: for the shuffle by the server
    /// what it adds; for that by the client the server's new shares of numbers and places; for all comparisons a unit vector
    /// for each digit, and the products.
    pub fn pieces(&self) -> [(u64, Width); 4 + DIGITS] {
        let (n, compared) = (self.elements, self.comparisons());
        let unit = self.digits.map(|digit| (compared, 1 << digit));
        let [a, b, c, d] = unit;
        [(n, self.width), (n, self.width), (n, self.place), a, b, c, d, (compared, PRODUCTS)]
    }

    /// What is sent, in order: one-way messages for the two shuffles, three rounds a level, and a one-way message with the
    /// winner's place.
    pub fn messages(&self) -> Vec<Message> {
        let packed = |elements: u64, bits: Width| packed_bytes(elements, bits.into());
        let numbers = packed(self.elements, self.width);
        let mut messages = vec![
            Message { client: numbers, server: 0 },
            Message { client: 0, server: numbers + packed(self.elements, self.place) },
        ];
        for level in &self.levels {
            for bits in [self.width, MASKED, 1] {
                let bytes = packed(level.pairs(), bits);
                messages.push(Message { client: bytes, server: bytes });
            }
        }
        messages.push(Message { client: 0, server: packed(1, self.place) });
        messages
    }

    /// Rounds among the messages; the others are one-way.
    pub fn rounds(&self) -> u64 {
        3 * self.levels.len() as u64
    }
}

/// Messages in one direction.
pub const ONE_WAY: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_leave_one() {
        for elements in (1..200).chain([1024, 49_152, 50_257, 128_256, 262_144]) {
            let mut alive = elements;
            for level in levels(elements) {
                assert_eq!(level.alive, alive);
                alive = level.left();
            }
            assert_eq!(alive, 1, "{elements}");
        }
    }

    #[test]
    fn sizes_of_a_vocabulary() {
        let choosing = Choosing::new(50_257, 16);
        let groups: Vec<u64> = choosing.levels.iter().map(|level| level.group).collect();
        assert_eq!((groups, choosing.comparisons(), choosing.rounds()), (vec![3, 6, 16, 175], 128_277, 12));
        assert_eq!((choosing.width, choosing.place, choosing.digits), (18, 16, [5, 4, 4, 4]));
        let dealt: u64 = choosing.pieces().iter().map(|&(elements, bits)| packed_bytes(elements, bits.into())).sum();
        assert_eq!(dealt, 1_865_996);
    }

    #[test]
    fn digits_hold_all_but_the_top_bit() {
        for opening in 3..=MAX_OPENING {
            let choosing = Choosing::new(9, opening);
            assert_eq!(choosing.digits.iter().sum::<Width>(), opening + LIFT - 1);
            assert!(choosing.digits.iter().all(|&digit| (1..=MAX_DIGIT).contains(&digit)));
        }
    }
}
