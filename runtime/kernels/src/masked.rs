//! Sums of those numbers of public tables whose bits are set, at public rotations.
//!
//! Every number is loaded and every bit is used, so neither time nor places in memory depend on the bits.

use crate::cpu::{Cpu, Level};

/// Numbers that are added side by side.
const LANES: usize = 16;

/// N tables of as many positions each, that are read by the negative of a place: kept backwards, and twice, so that a rotation is a
/// slice.
pub struct Reversed<const N: usize> {
    tables: [Vec<i32>; N],
    positions: usize,
}

impl<const N: usize> Reversed<N> {
    /// Of tables of 2^n numbers, whose absolute values add up to less than 2^31.
    pub fn new(tables: [&[i64]; N]) -> Reversed<N> {
        let positions = tables[0].len();
        assert!(
            positions.is_power_of_two() && tables.iter().all(|table| table.len() == positions),
            "tables of one size"
        );
        let small = |table: &&[i64]| table.iter().map(|v| v.unsigned_abs()).sum::<u64>() < 1 << 31;
        assert!(tables.iter().all(small), "sums fit 32 bits");
        let reversed = |table: &[i64]| {
            let at = |i: usize| table[i.wrapping_neg() & (positions - 1)] as i32;
            (0..2 * positions.max(LANES)).map(at).collect()
        };
        Reversed { tables: tables.map(reversed), positions }
    }

    /// Words of an element: its bits, the lowest first, one for each position.
    pub fn words(&self) -> usize {
        self.positions.div_ceil(64)
    }

    /// For every place p of `places` and its words, the sums over set bits j of `table[p - j]`, counted mod 2^n.
    pub fn sums(&self, cpu: Cpu, words: &[u64], places: &[u64], out: &mut [[i64; N]]) {
        assert_eq!(words.len(), places.len() * self.words(), "words of every element");
        match cpu.level() {
            // SAFETY: a `Cpu` of this level exists only if the features were detected.
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            Level::Avx512 | Level::Icelake => unsafe { x86::avx512(self, words, places, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            Level::Avx2 => unsafe { x86::avx2(self, words, places, out) },
            _ => self.portable(words, places, out),
        }
    }

    /// Where the slice of a place begins.
    #[inline(always)]
    fn start(&self, place: u64) -> usize {
        place.wrapping_neg() as usize & (self.positions - 1)
    }

    fn portable(&self, words: &[u64], places: &[u64], out: &mut [[i64; N]]) {
        for ((words, &place), out) in words.chunks_exact(self.words()).zip(places).zip(out) {
            let start = self.start(place);
            for (out, table) in out.iter_mut().zip(&self.tables) {
                let all = table[start..][..self.positions].chunks(64).zip(words);
                *out = all
                    .map(|(table, word)| {
                        table.iter().enumerate().map(|(j, v)| i64::from(*v) & -((word >> j & 1) as i64)).sum::<i64>()
                    })
                    .sum();
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LANES, Reversed};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub fn avx512<const N: usize>(reversed: &Reversed<N>, words: &[u64], places: &[u64], out: &mut [[i64; N]]) {
        let lanes = reversed.positions.clamp(LANES, 64);
        for ((words, &place), out) in words.chunks_exact(reversed.words()).zip(places).zip(out) {
            let mut sums = [_mm512_setzero_si512(); N];
            for (at, &word) in (reversed.start(place)..).step_by(64).zip(words) {
                for from in (0..lanes).step_by(LANES) {
                    let bits = (word >> from) as u16;
                    for (sum, table) in sums.iter_mut().zip(&reversed.tables) {
                        let numbers = &table[at + from..][..LANES];
                        // SAFETY: `numbers` are sixteen, and the load needs no alignment.
                        #[allow(unsafe_code)]
                        let numbers = unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) };
                        *sum = _mm512_mask_add_epi32(*sum, bits, *sum, numbers);
                    }
                }
            }
            *out = sums.map(|sum| i64::from(_mm512_reduce_add_epi32(sum)));
        }
    }

    #[target_feature(enable = "avx2")]
    pub fn avx2<const N: usize>(reversed: &Reversed<N>, words: &[u64], places: &[u64], out: &mut [[i64; N]]) {
        let lanes = reversed.positions.clamp(LANES, 64);
        let lane_bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        for ((words, &place), out) in words.chunks_exact(reversed.words()).zip(places).zip(out) {
            let mut sums = [_mm256_setzero_si256(); N];
            for (at, &word) in (reversed.start(place)..).step_by(64).zip(words) {
                for from in (0..lanes).step_by(8) {
                    let bits = _mm256_and_si256(_mm256_set1_epi32((word >> from) as i32), lane_bits);
                    let set = _mm256_cmpeq_epi32(bits, lane_bits);
                    for (sum, table) in sums.iter_mut().zip(&reversed.tables) {
                        let numbers = &table[at + from..][..8];
                        // SAFETY: `numbers` are eight, and the load needs no alignment.
                        #[allow(unsafe_code)]
                        let numbers = unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) };
                        *sum = _mm256_add_epi32(*sum, _mm256_and_si256(numbers, set));
                    }
                }
            }
            *out = sums.map(|sum| {
                let mut lanes = [0i32; 8];
                // SAFETY: `lanes` are eight, and the store needs no alignment.
                #[allow(unsafe_code)]
                unsafe {
                    _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum)
                };
                i64::from(lanes.iter().sum::<i32>())
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every size and rotation, on every instruction set, against the definition.
    #[test]
    fn sums_are_those_of_the_set_bits() {
        for n in 1..=10 {
            let positions = 1usize << n;
            let table: Vec<i64> = (0..positions as i64).map(|j| 37 * j * (j % 7) - 911 * j + 5).collect();
            let other: Vec<i64> = table.iter().map(|v| -3 * v + 1).collect();
            let reversed = Reversed::new([&table[..], &other[..]]);
            let places: Vec<u64> = (0..positions as u64).map(|i| i * 7 + 3).chain([u64::MAX]).collect();
            let words: Vec<u64> = (0..(places.len() * reversed.words()) as u64)
                .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & u64::MAX >> (64 - positions.min(64)))
                .collect();
            let want = |(place, words): (&u64, &[u64])| {
                [&table, &other].map(|table| {
                    let set = (0..positions).filter(|j| words[j / 64] >> (j % 64) & 1 == 1);
                    set.map(|j| table[(*place as usize).wrapping_sub(j) & (positions - 1)]).sum::<i64>()
                })
            };
            let want: Vec<[i64; 2]> = places.iter().zip(words.chunks(reversed.words())).map(want).collect();
            for cpu in Cpu::available() {
                let mut got = vec![[0; 2]; places.len()];
                reversed.sums(cpu, &words, &places, &mut got);
                assert_eq!(got, want, "2^{n} positions, {}", cpu.name());
            }
        }
    }
}
