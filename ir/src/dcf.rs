//! Shape and size of the keys of a distributed comparison function (DCF), as the cost model and the runtime both need
//! them.
//!
//! A key shares beta·1{y < alpha} for every public y of `input_bits` bits; beta is a vector of at most three components,
//! each mod 2^(its width). It is a tree that takes two bits of y, two `levels`, in a *step* from a node to one of its four
//! children (Boyle et al., ePrint 2020/1392, figure 1, has binary nodes). A leaf holds 2^leaf_log2 payloads: stopping the
//! tree early saves the words of steps and costs payloads at the leaf (Boyle, Gilboa and Ishai, CCS 2016, section 3.2.1).
//!
//! Four children cost half as many hashes as two levels of two, in evaluation, and 1.5 times the words: a word corrects
//! each child but one, whose word follows from the others (as, of two children, either has the same word).
//!
//! A key's *words* are the same for both parties; its roots come from the parties' seeds. Words of `elements` keys travel
//! as pieces, each packed and padded to a byte:
//!
//! 1. seed words, `[element][step][3]`, 128 bits: of the first three children, with the corrections of their control bits
//!    lowest; the last child's is the xor of them, except for its lowest bit;
//! 2. lowest bits of the last child's seed word, `[element][step]`, 1 bit;
//! 3. payload words of each component, `[element][step][3]`, its width: the last child's is the sum of them;
//! 4. last words of each component, `[element][2^leaf_log2]`, its width.
//!
//! Where few bits are compared, a table of the result at every point is smaller than two keys: see [`Comparison`].

use crate::wire::packed_bytes;

/// Bits of a seed word.
const SEED_BITS: u64 = 128;

/// Words of a step: one for each child but the last.
pub const STEP_WORDS: usize = 3;

/// Greatest number of components.
pub const MAX_COMPONENTS: usize = 3;

/// Greatest `leaf_log2`.
const MAX_LEAF_LOG2: u8 = 7;

/// See the module's head.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Layout {
    /// Bits of alpha and of the points.
    pub input_bits: u8,
    /// Bits of each component of the payload, zero for those that there are not.
    widths: [u8; MAX_COMPONENTS],
    /// Bits of a point that steps take: `input_bits - leaf_log2`, an even number.
    pub levels: u8,
    /// log2 of the payloads of a leaf.
    pub leaf_log2: u8,
}

impl Layout {
    /// The layout whose keys are smallest; of equal ones that with the greater number of steps.
    ///
    /// Panics unless 1 <= `input_bits` <= 63, and there are one to three widths of 1 to 64 bits.
    pub fn new(input_bits: u8, widths: &[u8]) -> Layout {
        let least = (input_bits % 2..=input_bits.min(MAX_LEAF_LOG2))
            .step_by(2)
            .map(|leaf_log2| Layout::with_leaf(input_bits, widths, leaf_log2))
            .min_by_key(Layout::key_bits);
        least.expect("leaf_log2 0 or 1 is always a candidate")
    }

    /// The layout with a given leaf size, for tests and measurements; panics as [`Layout::new`] does, and where
    /// `leaf_log2` exceeds 7 or `input_bits`, or leaves an odd number of levels.
    pub fn with_leaf(input_bits: u8, widths: &[u8], leaf_log2: u8) -> Layout {
        assert!((1..=63).contains(&input_bits), "a comparison has 1 to 63 input bits, not {input_bits}");
        assert!((1..=MAX_COMPONENTS).contains(&widths.len()), "a payload has 1 to 3 components");
        assert!(widths.iter().all(|w| (1..=64).contains(w)), "a component has 1 to 64 bits, not {widths:?}");
        assert!(leaf_log2 <= input_bits.min(MAX_LEAF_LOG2), "a leaf of 2^{leaf_log2} is too large");
        let levels = input_bits - leaf_log2;
        assert!(levels.is_multiple_of(2), "a step takes two levels, and there are {levels}");
        let mut all = [0; MAX_COMPONENTS];
        all[..widths.len()].copy_from_slice(widths);
        Layout { input_bits, widths: all, levels, leaf_log2 }
    }

    /// The keys of a `ge` of result width N = `width` on an opening of `opening` bits: the mask without its top bit is
    /// compared, the payload is a sign.
    pub fn ge(opening: u8, width: u8) -> Layout {
        Layout::new(opening - 1, &[width])
    }

    /// The keys of a `spline`: a sign, the mask under that sign, and the mask's top bit, which counts 2^n-fold and so
    /// needs N - n bits only.
    pub fn spline(opening: u8, width: u8) -> Layout {
        let widths = [width, width, width.saturating_sub(opening)];
        Layout::new(opening - 1, if width > opening { &widths } else { &widths[..2] })
    }

    /// The keys of a `select` of a number of components: a sign, and their masks under that sign.
    pub fn select(opening: u8, components: usize, width: u8) -> Layout {
        Layout::new(opening - 1, &[width; MAX_COMPONENTS][..1 + components])
    }

    /// Bits of each component.
    pub fn widths(&self) -> &[u8] {
        &self.widths[..self.components()]
    }

    /// Components of the payload.
    pub fn components(&self) -> usize {
        self.widths.iter().filter(|&&width| width > 0).count()
    }

    /// Steps from the root to a leaf.
    pub fn steps(&self) -> usize {
        usize::from(self.levels / 2)
    }

    /// Payloads of a leaf.
    pub fn leaf_size(&self) -> usize {
        1 << self.leaf_log2
    }

    /// Bits of one key, without padding.
    pub fn key_bits(&self) -> u64 {
        let payload: u64 = self.widths.iter().map(|&width| u64::from(width)).sum();
        self.steps() as u64 * (STEP_WORDS as u64 * (SEED_BITS + payload) + 1) + (payload << self.leaf_log2)
    }

    /// Bytes of the pieces for `elements` keys, in stream order; nothing for components that there are not. Below 2^40
    /// elements nothing overflows.
    pub fn piece_bytes(&self, elements: u64) -> [u64; 2 + 2 * MAX_COMPONENTS] {
        let steps = elements * self.steps() as u64;
        let words = steps * STEP_WORDS as u64;
        let mut pieces = [0; 2 + 2 * MAX_COMPONENTS];
        (pieces[0], pieces[1]) = (packed_bytes(words, SEED_BITS), packed_bytes(steps, 1));
        for (c, &width) in self.widths.iter().enumerate() {
            pieces[2 + c] = packed_bytes(words, u64::from(width));
            pieces[2 + MAX_COMPONENTS + c] = packed_bytes(elements << self.leaf_log2, u64::from(width));
        }
        pieces
    }

    /// Bytes of the words of `elements` keys, the sum of [`Layout::piece_bytes`].
    pub fn words_bytes(&self, elements: u64) -> u64 {
        self.piece_bytes(elements).iter().sum()
    }
}

/// Greatest width of a table's values: a word at any bit of a byte has all of one.
const MAX_TABLE_WIDTH: u8 = 56;

/// Bits of a point of a small table.
const SMALL_TABLE: u8 = 8;

/// How a `ge` is dealt: by what is smaller, where a table counts for two thirds of its size, since reading it takes a
/// fraction of the time that it takes to evaluate a key. A small table always: two parties can make it, and no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// Shares of the comparison at each of 2^`input_bits` points: a correlation, which the server alone receives.
    Table {
        /// Bits of a point.
        input_bits: u8,
    },
    /// Shares of the mask's top bit, and a key for both parties.
    Key(Layout),
}

impl Comparison {
    /// Of a `ge` of result width `width` on an opening of `opening` bits: the mask without its top bit is compared.
    pub fn new(opening: u8, width: u8) -> Comparison {
        let layout = Layout::ge(opening, width);
        let keys = u128::from(2 * layout.key_bits() + u64::from(width));
        let table = u128::from(width) << layout.input_bits;
        if width <= MAX_TABLE_WIDTH && (2 * table <= 3 * keys || layout.input_bits <= SMALL_TABLE) {
            Comparison::Table { input_bits: layout.input_bits }
        } else {
            Comparison::Key(layout)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_bits_are_compared_by_a_table() {
        // 64·9 bits against 2·556 + 9; 256·6 against 2·787 + 6; 512·9 against 2·1112 + 9.
        assert_eq!(Comparison::new(7, 9), Comparison::Table { input_bits: 6 });
        assert_eq!(Comparison::new(9, 6), Comparison::Table { input_bits: 8 });
        assert_eq!(Comparison::new(10, 9), Comparison::Key(Layout::ge(10, 9)));
        assert_eq!(Comparison::new(64, 64), Comparison::Key(Layout::ge(64, 64)));
        assert_eq!(Comparison::new(2, 1), Comparison::Table { input_bits: 1 });
    }

    #[test]
    fn the_leaf_is_the_cheapest() {
        // 2·(385 + 30) + 32·10 = 1150 bits; one step more or fewer costs 1325 or 1695.
        let l = Layout::new(9, &[10]);
        assert_eq!((l.steps(), l.leaf_log2, l.key_bits()), (2, 5, 1150));
        // 385 + 576 bits a step against 192·2^l at the leaf.
        let l = Layout::new(30, &[64; 3]);
        assert_eq!((l.steps(), l.leaf_log2, l.key_bits()), (14, 2, 14 * 961 + 768));
        // A leaf alone.
        let l = Layout::new(1, &[5]);
        assert_eq!((l.steps(), l.leaf_log2, l.key_bits()), (0, 1, 10));
        for bits in 1..=63 {
            for widths in [&[1][..], &[8], &[17, 17], &[46, 46, 20], &[64; 3]] {
                let best = Layout::new(bits, widths);
                for leaf in (bits % 2..=bits.min(7)).step_by(2) {
                    let other = Layout::with_leaf(bits, widths, leaf);
                    assert!(
                        best.key_bits() < other.key_bits()
                            || best.key_bits() == other.key_bits() && best.leaf_log2 <= leaf
                    );
                }
            }
        }
    }

    #[test]
    fn pieces_are_padded_one_by_one() {
        let l = Layout::with_leaf(5, &[3], 1); // 2 steps, 2 payloads of 3 bits at the leaf.
        assert_eq!(l.piece_bytes(1), [96, 1, 3, 0, 0, 1, 0, 0]);
        assert_eq!(l.piece_bytes(3), [288, 1, 7, 0, 0, 3, 0, 0]);
        assert_eq!(l.words_bytes(3), 299);
        assert_eq!(l.words_bytes(0), 0);
    }

    #[test]
    fn components_have_their_own_widths() {
        let l = Layout::spline(25, 46);
        assert_eq!((l.input_bits, l.widths()), (24, &[46, 46, 21][..]));
        assert_eq!(l.key_bits(), l.steps() as u64 * (385 + 3 * 113) + (113 << l.leaf_log2));
        assert_eq!(Layout::spline(25, 25).widths(), [25, 25]);
        assert_eq!(Layout::spline(25, 20).widths(), [20, 20]);
        assert_eq!(Layout::ge(9, 9), Layout::new(8, &[9]));
    }
}
