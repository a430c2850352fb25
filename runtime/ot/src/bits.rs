//! Bits of numbers, packed.

use kernels::cpu::{Cpu, multiversion};
use zeroize::ZeroizeOnDrop;

/// A vector of secret bits, 64 in a word. No `Debug`, and wiped when dropped.
#[derive(ZeroizeOnDrop)]
pub struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    /// Bit number `place` of every number.
    pub fn of(values: &[u64], place: u8) -> Bits {
        let word = |values: &[u64]| values.iter().rev().fold(0, |word, v| word << 1 | (v >> place & 1));
        Bits { words: values.chunks(64).map(word).collect(), len: values.len() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bit `i`, in all bits of a word: zero or all ones.
    #[inline]
    pub(crate) fn filled(&self, i: usize) -> u64 {
        (self.words[i / 64] >> (i % 64) & 1).wrapping_neg()
    }

    /// Clears numbers whose bit is 0, from bit `from` on, which begins a word.
    pub(crate) fn keep(&self, from: usize, numbers: &mut [u64]) {
        assert!(from.is_multiple_of(64) && from + numbers.len() <= self.len, "bits from a whole word on");
        keep(Cpu::get(), &self.words[from / 64..], numbers);
    }

    /// Appends the bits packed into bytes, each changed by the low bit of a block.
    pub(crate) fn pack_with(&self, blocks: &[u128], out: &mut Vec<u8>) {
        assert_eq!(blocks.len(), self.len, "a block for each bit");
        for (word, blocks) in self.words.iter().zip(blocks.chunks(64)) {
            let random = blocks.iter().rev().fold(0, |word, block| word << 1 | (*block as u64 & 1));
            out.extend_from_slice(&(word ^ random).to_le_bytes()[..blocks.len().div_ceil(8)]);
        }
    }
}

multiversion! {
    /// Clears numbers whose bit is 0.
    fn keep(words: &[u64], numbers: &mut [u64]) {
        for (word, numbers) in words.iter().zip(numbers.chunks_mut(64)) {
            numbers.iter_mut().zip(0..).for_each(|(x, i): (&mut u64, u64)| *x &= (word >> (i % 64) & 1).wrapping_neg());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::ring::{pack, test_elements};

    #[test]
    fn bits_pack_as_numbers_do() {
        for len in [0, 1, 7, 8, 9, 63, 64, 65, 200] {
            let values = test_elements(5, len);
            for place in [0, 17, 63] {
                let bits = Bits::of(&values, place);
                let plain: Vec<u64> = values.iter().map(|v| v >> place & 1).collect();
                assert!((0..len).all(|i| bits.filled(i) & 1 == plain[i] && bits.filled(i) >> 63 == plain[i]));
                for cpu in Cpu::available() {
                    let mut kept = values.clone();
                    keep(cpu, &bits.words, &mut kept);
                    assert!((0..len).all(|i| kept[i] == values[i] * plain[i]), "{}", cpu.name());
                }
                for from in (0..=len).step_by(64) {
                    let mut kept = values[from..].to_vec();
                    bits.keep(from, &mut kept);
                    assert!((from..len).all(|i| kept[i - from] == values[i] * plain[i]));
                }
                let blocks: Vec<u128> = test_elements(6, len).into_iter().map(u128::from).collect();
                let changed: Vec<u64> = plain.iter().zip(&blocks).map(|(p, b)| p ^ (*b as u64 & 1)).collect();
                let (mut got, mut want) = (Vec::new(), Vec::new());
                bits.pack_with(&blocks, &mut got);
                pack(&changed, 1, &mut want);
                assert_eq!(got, want);
            }
        }
    }
}
