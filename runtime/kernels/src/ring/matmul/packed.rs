//! Right operands whose elements are packed without gaps: less to read from memory.
//!
//! Where the CPU permutes bytes, products of few rows unpack elements in registers, eight at a time, and multiply them
//! there. Others go through memory.

use super::few::{self, Part};
use super::{Operand, View};
use crate::cpu::Level;
use crate::ring::Packed;
use std::ops::Range;

/// A row-major matrix.
pub struct Matrix<'a> {
    pub elements: Packed<'a>,
    pub columns: usize,
}

impl Operand for Matrix<'_> {
    type Cell = u64;

    fn view<'v>(&'v self, rows: Range<usize>, columns: Range<usize>, scratch: &'v mut Vec<u64>) -> View<'v, u64> {
        super::filled(|first, out| self.elements.unpack(first, out), self.columns, rows, columns, scratch)
    }

    fn few(&self, part: Part, out: &mut [&mut [u64]]) {
        match part.cpu.level() {
            // SAFETY: a `Cpu` of this level exists only if the features were detected.
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            Level::Icelake => unsafe { x86::few(self, &part, out) },
            _ => few::made(&part, self, out),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::few::Part;
    use super::super::x86::prefetch_at;
    use super::Matrix;
    use crate::ring::pack::vbmi::{Places, REACH};
    use std::arch::x86_64::*;

    /// Rows that are combined in one pass over the sums: their places and factors take most registers.
    const GROUP: usize = 8;

    /// Elements that are unpacked at once.
    const LANES: usize = 8;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512ifma")]
    pub fn few(b: &Matrix, part: &Part, out: &mut [&mut [u64]]) {
        let width = usize::from(b.elements.width());
        // What is read of a row.
        let length = (part.columns.len().div_ceil(LANES) - 1) * width + REACH;
        let first = |row: usize| b.elements.from(row.min(part.rows.end - 1) * b.columns + part.columns.start);
        // By the bit at which a row begins.
        let places: [Places; 8] = std::array::from_fn(|phase| Places::new(width, phase));
        // An element of more bits may end in a ninth byte, and what lies above an element must not count.
        let short = part.width <= 52 && (part.width..=57).contains(&b.elements.width());
        let combine = if short { combine_ifma } else { combine_mullo };
        for (group, next) in part.groups::<GROUP>() {
            let (rows, places) = (group.map(|row| first(row).0), group.map(|row| places[first(row).1]));
            // The last rows may end with the memory: they are read from copies with room behind.
            let mut copies: [Vec<u8>; GROUP] = Default::default();
            for (copy, row) in copies.iter_mut().zip(rows).filter(|(_, row)| row.len() < length) {
                copy.extend_from_slice(row);
                copy.resize(length, 0);
            }
            let rows = std::array::from_fn(|i| if copies[i].is_empty() { rows[i] } else { &copies[i] });
            let ahead = next * b.columns * width / 8;
            for (factors, out) in part.factors(group).zip(&mut *out) {
                combine(width, &factors, &rows, &places, ahead, out);
            }
        }
    }

    macro_rules! combine {
        ($name:ident, $features:literal, $group:ident, $mul_add:expr) => {
            #[target_feature(enable = $features)]
            fn $name(
                width: usize,
                factors: &[u64; GROUP],
                rows: &[&[u8]; GROUP],
                places: &[Places; GROUP],
                ahead: usize,
                out: &mut [u64],
            ) {
                let places = *places;
                let (blocks, last) = out.as_chunks_mut::<LANES>();
                let mut filled = [0; LANES];
                filled[..last.len()].copy_from_slice(last);
                let rest = (!last.is_empty()).then_some(&mut filled);
                for (block, out) in blocks.iter_mut().chain(rest).enumerate() {
                    let from = block * width;
                    // SAFETY: `out` is eight elements, and the load needs no alignment.
                    #[allow(unsafe_code)]
                    let mut sums = [unsafe { _mm512_loadu_si512(out.as_ptr().cast()) }, _mm512_setzero_si512()];
                    for i in 0..GROUP {
                        prefetch_at(rows[i], from + ahead);
                        let factor = _mm512_set1_epi64(factors[i] as i64);
                        sums[i % 2] = $mul_add(sums[i % 2], factor, places[i].$group(rows[i], from));
                    }
                    let sums = _mm512_add_epi64(sums[0], sums[1]);
                    // SAFETY: `out` is eight elements, and the store needs no alignment.
                    #[allow(unsafe_code)]
                    unsafe {
                        _mm512_storeu_si512(out.as_mut_ptr().cast(), sums)
                    }
                }
                last.copy_from_slice(&filled[..last.len()]);
            }
        };
    }

    // out[j] += Σ factors[i]·rows[i][j], whose elements lie at places[i], mod 2^52 and the elements' width, and mod 2^64.
    // Fetches what lies `ahead` bytes on.
    combine!(
        combine_ifma,
        "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512ifma",
        group_unmasked,
        _mm512_madd52lo_epu64
    );
    combine!(combine_mullo, "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi", group, |acc, f, x| _mm512_add_epi64(
        acc,
        _mm512_mullo_epi64(f, x)
    ));
}
