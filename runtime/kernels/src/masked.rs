//! Sums of those numbers of public tables whose bits are set, at public rotations.
//!
//! Every number is loaded and every bit is used, so neither time nor places in memory depend on the bits.

use crate::cpu::{Cpu, Level};

/// Numbers that are added side by side.
const LANES: usize = 16;

/// N tables of as many positions each, that are read by the negative of a place: kept backwards.
pub struct Reversed<const N: usize> {
    /// Kept twice, so that a rotation is a slice.
    tables: [Vec<i32>; N],
    digits: Digits,
    positions: usize,
}

/// 64 numbers of eight bits.
#[repr(align(64))]
struct Line([i8; 64]);

/// Tables in digits -128 to 127 of base 256, the lowest first, by 64 positions, tables and digits; the missing positions of a
/// small table are 0. Bits are rotated to the tables here, so that each line is read where it lies.
struct Digits {
    lines: Vec<Line>,
    /// Digits of a number.
    count: usize,
}

impl Digits {
    fn of(tables: &[Vec<i32>], positions: usize) -> Digits {
        let digit = |mut number: i32, at: usize| {
            // Mod 2^32: what the fifth digit of a number near 2^31 holds is lost in the sum, too.
            (0..at).for_each(|_| number = number.wrapping_sub(number as i8 as i32) >> 8);
            number as i8
        };
        let numbers = || tables.iter().flat_map(|table| &table[..positions]);
        // Digits of either sign hold numbers up to 127·(256^c - 1)/255.
        let greatest = |count: usize| 127 * ((1u32 << (8 * count)) - 1) / 255;
        let count = (1..4).find(|&count| numbers().all(|v| v.unsigned_abs() <= greatest(count))).unwrap_or(4);
        let line = |word: usize, table: &[i32], at: usize| {
            let number = |i: usize| if 64 * word + i < positions { digit(table[64 * word + i], at) } else { 0 };
            Line(std::array::from_fn(number))
        };
        let words = 0..positions.div_ceil(64);
        let lines =
            words.flat_map(|word| tables.iter().flat_map(move |table| (0..count).map(move |at| line(word, table, at))));
        Digits { lines: lines.collect(), count }
    }
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
        let tables = tables.map(reversed);
        Reversed { digits: Digits::of(&tables, positions), tables, positions }
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
            Level::Icelake => unsafe {
                match self.digits.count {
                    1 => x86::icelake::<N, 1>(self, words, places, out),
                    2 => x86::icelake::<N, 2>(self, words, places, out),
                    3 => x86::icelake::<N, 3>(self, words, places, out),
                    _ => x86::icelake::<N, 4>(self, words, places, out),
                }
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            Level::Avx512 => unsafe { x86::avx512(self, words, places, out) },
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

    /// A word of the bits of an element, rotated so that they stand beside the numbers of the table that they select.
    #[inline(always)]
    fn rotated(&self, words: &[u64], at: usize, place: u64) -> u64 {
        let (count, shift) = (self.words(), place as usize & 63 & (self.positions - 1));
        if self.positions < 64 {
            let word = words[0];
            return (word >> shift | word << (self.positions - shift)) & ((1 << self.positions) - 1);
        }
        let from = at + place as usize / 64;
        let (low, high) = (words[from & (count - 1)], words[(from + 1) & (count - 1)]);
        low >> shift | high << 1 << (63 - shift)
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

    /// Bits become bytes of 0 and 1, and a dot product adds four numbers of eight bits to each lane.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub fn icelake<const N: usize, const D: usize>(
        reversed: &Reversed<N>,
        words: &[u64],
        places: &[u64],
        out: &mut [[i64; N]],
    ) {
        let ones = _mm512_set1_epi8(1);
        for ((words, &place), out) in words.chunks_exact(reversed.words()).zip(places).zip(out) {
            let mut sums = [[_mm512_setzero_si512(); D]; N];
            for (at, lines) in reversed.digits.lines.chunks_exact(N * D).enumerate() {
                let bits = _mm512_maskz_mov_epi8(reversed.rotated(words, at, place), ones);
                for (sum, line) in sums.as_flattened_mut().iter_mut().zip(lines) {
                    // SAFETY: a line is 64 bytes, aligned to as many.
                    #[allow(unsafe_code)]
                    let line = unsafe { _mm512_load_si512(line.0.as_ptr().cast()) };
                    *sum = _mm512_dpbusd_epi32(*sum, bits, line);
                }
            }
            // Loops, not closures: those need not be compiled with the features of this function, and then hand registers
            // over in memory.
            let mut whole = [_mm512_setzero_si512(); N];
            for (whole, digits) in whole.iter_mut().zip(&sums) {
                for &digit in digits.iter().rev() {
                    *whole = _mm512_add_epi32(_mm512_slli_epi32::<8>(*whole), digit);
                }
            }
            *out = match &whole[..] {
                &[a, b] => {
                    // Lanes of both tables alternate: one reduction for two.
                    let both = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
                    let both = _mm256_add_epi32(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64::<1>(both));
                    let both = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both));
                    let both = _mm_cvtsi128_si64(_mm_add_epi32(both, _mm_shuffle_epi32::<0b1110>(both)));
                    let mut sums = [i64::from(both as i32); N];
                    sums[1] = both >> 32;
                    sums
                }
                whole => {
                    let mut sums = [0; N];
                    for (sum, &lanes) in sums.iter_mut().zip(whole) {
                        *sum = i64::from(_mm512_reduce_add_epi32(lanes));
                    }
                    sums
                }
            };
        }
    }

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
            for (out, &sum) in out.iter_mut().zip(&sums) {
                *out = i64::from(_mm512_reduce_add_epi32(sum));
            }
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
            for (out, &sum) in out.iter_mut().zip(&sums) {
                let mut lanes = [0i32; 8];
                // SAFETY: `lanes` are eight, and the store needs no alignment.
                #[allow(unsafe_code)]
                unsafe {
                    _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum)
                };
                *out = i64::from(lanes.iter().sum::<i32>());
            }
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
            check(&table, &other);
            // Numbers of one digit and of all, near the ends of what digits hold.
            let ends = [127, -128, -127, 128, 32_639, 32_640, -32_639, -32_640, 8_355_711, 8_355_712, -8_355_712];
            let small: Vec<i64> = (0..positions).map(|j| [127, -127, 0][j % 3]).collect();
            let large: Vec<i64> = (0..positions)
                .map(|j| if j == 1 { (1 << 31) - (1 << 29) } else { ends[j % 11] / (1 + j as i64 / 8) })
                .collect();
            check(&small, &small);
            check(&large, &small);
            check(&small, &large);
        }
    }

    fn check(table: &[i64], other: &[i64]) {
        let positions = table.len();
        let reversed = Reversed::new([table, other]);
        let places: Vec<u64> = (0..positions as u64).map(|i| i * 7 + 3).chain([u64::MAX]).collect();
        let words: Vec<u64> = (0..(places.len() * reversed.words()) as u64)
            .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & u64::MAX >> (64 - positions.min(64)))
            .collect();
        let want = |(place, words): (&u64, &[u64])| {
            [table, other].map(|table| {
                let set = (0..positions).filter(|j| words[j / 64] >> (j % 64) & 1 == 1);
                set.map(|j| table[(*place as usize).wrapping_sub(j) & (positions - 1)]).sum::<i64>()
            })
        };
        let want: Vec<[i64; 2]> = places.iter().zip(words.chunks(reversed.words())).map(want).collect();
        for cpu in Cpu::available() {
            let mut got = vec![[0; 2]; places.len()];
            reversed.sums(cpu, &words, &places, &mut got);
            assert_eq!(got, want, "{positions} positions, {}", cpu.name());
        }
    }
}
